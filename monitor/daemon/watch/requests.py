"""The handlers of the requests `watch`, `command`, `clip`, `picture` and `settings` (docs/control.md)."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

from monitor.clips.clip import EventClip
from monitor.clips.service import ClipService
from monitor.config import Config
from monitor.daemon.commands import Commands
from monitor.daemon.control import ControlError, Handler, Reply
from monitor.daemon.watch.settings_check import SettingsCheck, public_settings
from monitor.daemon.watch.watchers import Watchers
from monitor.mqtt.messages import ResponseMessage

CHUNK = 1 << 16
NAME = re.compile(r"[a-z0-9_-]{1,64}")
EVENT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BY = re.compile(r"[!-~]{1,64}")


class Requests:
    """Answers requests in the event loop. What waits for the disk runs on other threads."""

    def __init__(
        self,
        watchers: Watchers,
        commands: Commands,
        clips: ClipService,
        settings_check: SettingsCheck,
        *,
        config: Callable[[], Config],
        snapshot: Callable[[str], EventClip | None],
    ) -> None:
        """`config` returns the settings in use, `snapshot` the clip of an open event as recorded so far."""
        self._watchers = watchers
        self._commands = commands
        self._clips = clips
        self._settings_check = settings_check
        self._config = config
        self._snapshot = snapshot

    def handlers(self) -> dict[str, Handler]:
        """The handlers by request."""
        return {
            "watch": self._watchers.watch,
            "command": self._command,
            "clip": self._clip,
            "picture": self._picture,
            "settings": self._settings,
        }

    async def _command(self, request: dict[str, Any]) -> Reply:
        machine, name = _matching(request, "machine", NAME), _matching(request, "command", NAME)
        by = _matching(request, "by", BY, default="tool")
        payload = request.get("payload", {})
        if not isinstance(payload, dict):
            raise ControlError("payload must be an object")
        answered: asyncio.Future[ResponseMessage] = asyncio.get_running_loop().create_future()

        def answer(response: ResponseMessage) -> None:
            if not answered.done():  # the client may be gone
                answered.set_result(response)

        self._commands.order(machine, name, json.dumps(payload).encode(), by=by, reply=answer)
        return Reply({"response": (await answered).model_dump(by_alias=True)})

    async def _clip(self, request: dict[str, Any]) -> Reply:
        event_id = _matching(request, "id", EVENT_ID)
        snapshot = self._snapshot(event_id)
        name, data = await asyncio.to_thread(self._clips.read_clip, event_id, snapshot=snapshot)
        return _file(name, data, media="audio/flac")

    async def _picture(self, request: dict[str, Any]) -> Reply:
        name, data = await asyncio.to_thread(self._clips.read_picture, _matching(request, "id", EVENT_ID))
        return _file(name, data, media="image/png")

    async def _settings(self, _: dict[str, Any]) -> Reply:
        problems = await self._settings_check.problems()
        return Reply({"settings": public_settings(self._config()), "problems": problems})


def _matching(request: dict[str, Any], key: str, pattern: re.Pattern[str], *, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ControlError(f"{key} must match {pattern.pattern}, got {json.dumps(value)[:80]}")
    return value


def _file(name: str, data: bytes, *, media: str) -> Reply:
    async def parts() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    return Reply({"type": media, "size": len(data), "name": name}, parts(), is_file=True)
