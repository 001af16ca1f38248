"""`settings`: the effective settings, and the lines of `monitor check-config`, which runs as a child process."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitor.child_process import child_command
from monitor.config import Config
from monitor.errors import SinkError

log = logging.getLogger(__name__)
WITHIN_S = 45.0
AGAIN_S = 30.0  # the lines are reused for this long
MAX_LINES = 200
LINE = re.compile(r"monitor: ((?:error|warning): .*)")
_LOGIN = re.compile(r"(\w://)[^/\s@]+@")


class SettingsCheck:
    """Runs one check at a time. All calls must come from the event loop."""

    def __init__(self, config_path: Path | None, environment: Mapping[str, str]) -> None:
        self._config_path = config_path
        self._environment = environment
        self._lock = asyncio.Lock()
        self._lines: list[str] = []
        self._checked_at: float | None = None

    async def problems(self) -> list[str]:
        """The lines of `monitor check-config`, as `error: …` or `warning: …`; SinkError if it cannot be run."""
        async with self._lock:
            if self._checked_at is None or time.monotonic() - self._checked_at > AGAIN_S:
                self._lines = await self._check()
                self._checked_at = time.monotonic()
            return self._lines

    async def _check(self) -> list[str]:
        config = [] if self._config_path is None else ["--config", str(self._config_path)]
        try:
            child = await asyncio.create_subprocess_exec(
                *child_command("monitor.cli.main", *config, "check-config"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self._environment),
            )
        except OSError as error:
            raise SinkError(f"check-config cannot be started: {error.strerror}") from error
        try:
            _, err = await asyncio.wait_for(child.communicate(), WITHIN_S)
        except asyncio.TimeoutError:
            raise SinkError(f"check-config took longer than {WITHIN_S:.0f} s") from None
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        found = [LINE.fullmatch(line.strip()) for line in err.decode("utf-8", "replace").splitlines()]
        return [line[1] for line in found if line is not None][:MAX_LINES]


def public_settings(config: Config) -> dict[str, Any]:
    """The settings as JSON. Secrets are not part of the configuration; logins and what may be a token are hidden."""
    settings = _hide(config.model_dump(mode="json", by_alias=True))
    assert isinstance(settings, dict)
    for target in settings["notify"].values():  # a path may be a secret, such as a topic
        target["url"] = target["url"] and re.sub("(?<=://).*", "<hidden>", target["url"])
    return settings


def _hide(value: object) -> object:
    if isinstance(value, dict):
        return {key: _hide(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hide(item) for item in value]
    return _LOGIN.sub(r"\1<hidden>@", value) if isinstance(value, str) else value
