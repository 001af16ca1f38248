"""The configuration as it will be: the file, or the shipped one if there is none, and the changes to it."""

import contextlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from monitor.cli.checking.check_config import check
from monitor.cli.setup.yaml_edit import Keys, Value, edit, rename
from monitor.config import Config, load_config
from monitor.config.load import ENVIRONMENT_PREFIX
from monitor.config.yaml_file import MAX_BYTES
from monitor.errors import ConfigError, SinkError
from monitor.files import atomic_write, read_regular
from monitor.shipped import is_example, shipped


class Draft:
    """Collects changes. Nothing is written before `write`."""

    def __init__(self, path: Path) -> None:
        """SinkError if the file cannot be written, ConfigError if it has errors already."""
        self.path = path
        template = shipped("configs/monitor.yaml")
        _check_place(path)
        self.existed = path.exists()
        self.password: str | None = None  # to be written to `password_path`
        self.password_path = path.parent / "mqtt-password"
        self._before = _read(path if self.existed else template)
        self.is_fresh = not self.existed or is_example(path)
        self.text = self._before
        self.config: Config = load_config(path if self.existed else template, _without_settings(os.environ))

    @property
    def has_changed(self) -> bool:
        """Whether there is anything to write."""
        return not self.existed or self.text != self._before

    def set(self, keys: Keys, value: Value, present: object) -> None:
        """Set a value, unless it is the present one."""
        if value != present:
            self.text = edit(self.text, {keys: value})

    def rename_machine(self, old: str, new: str) -> None:
        """Give a machine another id."""
        self.text = rename(self.text, ("machines", old), new)

    def read(self) -> Config:
        """The settings as written."""
        return load_config(self.path, os.environ)

    def write(self) -> None:
        """Check the new configuration as `monitor check-config` does, keep a copy of the old file, and replace it at once.

        ConfigError if it is refused; its lines are in the log, and the old files stay.
        """
        secret = self.password_path
        try:
            before = secret.read_bytes() if secret.exists() else None
            mode = 0o600 if before is None else stat.S_IMODE(secret.stat().st_mode)  # which may let the service's user in
            if self.password is not None:
                atomic_write(secret, self.password.encode() + b"\n", mode=mode)
            try:
                self._write_settings()
            except BaseException:
                if self.password is not None and before is None:
                    secret.unlink()
                elif self.password is not None and before is not None:
                    atomic_write(secret, before, mode=mode)
                raise
        except OSError as error:
            raise SinkError(f"{error.filename or self.path}: cannot be written: {error.strerror}") from error

    def _write_settings(self) -> None:
        new = self.path.with_name(f".{self.path.name}.new")
        mode = self.path.stat().st_mode & 0o777 if self.existed else 0o644  # the service's user must be able to read it
        try:
            atomic_write(new, self.text.encode(), mode=mode)
            with contextlib.redirect_stdout(io.StringIO()):
                status = check(new)
            if status:
                raise ConfigError(f"the settings were refused, and {self.path} was not changed")
            if self.existed:
                atomic_write(self.path.with_name(f"{self.path.name}.bak"), self._before.encode(), mode=mode)
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the settings in it, which must not get into the file."""
    return {name: text for name, text in environment.items() if not name.startswith(ENVIRONMENT_PREFIX)}


def _check_place(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be created: {error.strerror}; use sudo, or --config FILE") from error
    if not os.access(folder, os.W_OK):
        raise SinkError(f"{folder}: this user may not write there; use sudo, or --config FILE")


def _read(path: Path) -> str:
    try:
        return read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
