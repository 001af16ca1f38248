"""The configuration and its bundles: loaded at start, and again on request."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from monitor.bundle import Bundle
from monitor.config import Config, load_config
from monitor.config.installed import Installed, read_installed, update_folder
from monitor.daemon.bundles.load import exposed_files, load_bundles, service_problems
from monitor.daemon.notify import Notifier
from monitor.errors import ConfigError, StethosError
from monitor.files import foreign_owner
from monitor.threads import Probe

log = logging.getLogger(__name__)
FIXED = (
    "node",
    "mqtt",
    "home_assistant",
    "clips",
    "history",
    "private",
    "state_dir",
    "runtime_dir",
)  # changes to these require a restart


class Settings(NamedTuple):
    """A configuration with the bundles of its machines."""

    config: Config
    bundles: Mapping[str, Bundle]
    installed: Mapping[str, Installed] = {}  # what `monitor update` or `install-bundle` has changed


def load_settings(config_path: Path | None, environment: Mapping[str, str], *, broken: dict[str, str]) -> Settings:
    """The configuration and its bundles. `broken` collects those that cannot be used.

    ConfigError if this process is root and another user owns the state directory.
    """
    config = load_config(config_path, environment)
    if wrong := service_problems(config):
        raise ConfigError(wrong[0])
    if (owner := foreign_owner(config.state_dir)) is not None:  # who could lead root's writes elsewhere by links
        raise ConfigError(
            f"state_dir {config.state_dir} belongs to user {owner}: run as that user (systemctl start stethos), not as root"
        )
    for line in exposed_files(config):
        log.warning("%s", line)
    folder = update_folder(config)
    return Settings(config, load_bundles(config, broken=broken), {name: read_installed(folder, name) for name in config.machines})


class Reload:
    """Applies a changed configuration and its bundles as a whole, or keeps the old ones and logs why."""

    def __init__(
        self,
        config_path: Path | None,
        environment: Mapping[str, str],
        notifier: Notifier,
        *,
        current: Callable[[], Settings],
        apply: Callable[[Settings], str],
    ) -> None:
        """`apply` changes to new settings and returns what runs now, in words; StethosError if the old ones stay."""
        self._config_path = config_path
        self._environment = environment
        self._notifier = notifier
        self._current = current
        self._apply = apply
        self._requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_running = False
        self._n_failed = 0  # by an unexpected error

    def request(self) -> None:
        """Reload soon."""
        self._requested.set()

    def start(self) -> None:
        """Serve requests in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._reload_on_request())

    def stop(self) -> None:
        """Serve no more requests."""
        if self._task is not None:
            self._task.cancel()

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of the reload, which reads files on a thread."""
        return Probe(
            name="reload",
            is_alive=lambda: self._task is None or not self._task.done(),
            advanced=lambda: 0 if self._is_running else time.monotonic_ns(),
            n_failures=lambda: self._n_failed,
            patience_s=patience_s,
        )

    async def _reload_on_request(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            self._is_running = True
            await self._reload()
            self._is_running = False

    async def _reload(self) -> None:
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            new = await asyncio.to_thread(self._load)
            old = self._current().config
            changed = [key for key in FIXED if getattr(new.config, key) != getattr(old, key)]
            kept = new.config.model_copy(update={key: getattr(old, key) for key in FIXED})
            running = self._apply(new._replace(config=kept))
            if changed:
                log.warning("%s: takes effect only after a restart (systemctl restart stethos)", ", ".join(changed))
            log.info("reloaded: %s", running)
        except StethosError as error:
            log.error("reload refused, the old settings stay: %s", error)
        except Exception:
            self._n_failed += 1
            log.exception("reload failed")
        finally:
            self._notifier.send("READY=1")

    def _load(self) -> Settings:
        """The new settings. A damaged bundle is an error only where the reload would change it."""
        broken: dict[str, str] = {}
        config, bundles, installed = load_settings(self._config_path, self._environment, broken=broken)
        current = self._current()
        kept: dict[str, Bundle] = {}
        for name, reason in broken.items():
            new, old = config.machines[name], current.config.machines.get(name)
            if old is None or (old.bundle, old.enabled) != (new.bundle, new.enabled):
                raise ConfigError(reason)
            log.error("%s; not reloaded", reason)
            kept |= {name: current.bundles[name]} if name in current.bundles else {}
        return Settings(config, {**bundles, **kept}, installed)
