"""Secrets: files and systemd credentials that the configuration names, read anew for every use."""

import os
from pathlib import Path

from monitor.errors import SinkError
from monitor.files import read_regular

MAX_BYTES = 10_000  # of a secret
PASSED = "/run/credentials"  # where systemd puts the credentials of a unit
SOURCES = ("/etc/stethos", "/etc/credstore")  # of systemd/stethos.service, and systemd's own


def read_secret(key: str, path: Path, *, what: str) -> str:
    """The content of a file without the line break at its end. SinkError names the setting, never the content."""
    try:
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        hint = " (run this command with sudo)" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise SinkError(f"{key}: {path} cannot be read: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise SinkError(f"{key}: {path} must be UTF-8 text") from error
    if not text:
        raise SinkError(f"{key}: {path} must contain {what}, got nothing")
    return text


def credential_path(key: str, name: str) -> Path:
    """The file of a systemd credential, also for a command outside of the service."""
    if (folder := os.environ.get("CREDENTIALS_DIRECTORY")) is not None:
        return Path(folder) / name
    if (source := credential_source(name)) is not None:
        return source
    raise SinkError(
        f"{key}: {name} must be given by systemd (LoadCredential={name}:FILE) or be a file in {' or '.join(SOURCES)}, got neither"
    )


def credential_source(name: str) -> Path | None:
    """The file from which the unit loads a credential. It is returned also if its folder cannot be read."""
    paths = (Path(folder) / name for folder in SOURCES)
    return next((path for path in paths if not is_missing(path)), None)


def is_missing(path: Path) -> bool:
    """Whether there is no such file; False if that cannot be determined."""
    try:
        return not path.is_file()
    except PermissionError:
        return False
