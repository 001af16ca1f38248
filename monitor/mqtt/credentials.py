"""Credentials: TLS context and password, read anew for every connection."""

import os
import ssl
from pathlib import Path

from monitor.config import MqttConfig, TlsConfig
from monitor.errors import SinkError

PASSED = "/run/credentials"  # where systemd puts the credentials of a unit
SOURCES = ("/etc/stethos", "/etc/credstore")  # of systemd/stethos.service, and systemd's own


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or later, with certificate and host name of the broker verified. SinkError names the invalid file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"mqtt.tls.ca: {tls.ca} is not a readable PEM certificate: {_reason(error)}") from error
    if tls.certificate is not None and tls.key is not None:
        key = tls.key
        if key.is_relative_to(PASSED) and _is_missing(key):  # outside of the service
            key = _source(key.name) or key
        try:
            context.load_cert_chain(tls.certificate, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            files = f"{tls.certificate} and {key}"
            raise SinkError(
                f"mqtt.tls: {files} are not a certificate and its key (PEM, no passphrase): {_reason(error)}"
            ) from error
    return context


def password(config: MqttConfig) -> str | None:
    """The content of the configured file or systemd credential, without the line break at its end; None without either."""
    if config.password_file is not None:
        return _secret("mqtt.password_file", config.password_file)
    if config.password_credential is None:
        return None
    return _secret("mqtt.password_credential", _credential(config.password_credential))


def _credential(name: str) -> Path:
    """The file of a systemd credential, also for a command outside of the service."""
    if (folder := os.environ.get("CREDENTIALS_DIRECTORY")) is not None:
        return Path(folder) / name
    if (source := _source(name)) is not None:
        return source
    raise SinkError(
        f"mqtt.password_credential: {name} must be given by systemd (LoadCredential={name}:FILE) or be a file in "
        f"{' or '.join(SOURCES)}, got neither"
    )


def _source(name: str) -> Path | None:
    """The file from which the unit loads a credential. It is returned also if its folder cannot be read."""
    paths = (Path(folder) / name for folder in SOURCES)
    return next((path for path in paths if not _is_missing(path)), None)


def _is_missing(path: Path) -> bool:
    try:
        return not path.is_file()
    except PermissionError:
        return False


def _secret(key: str, path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        hint = " (run this command with sudo)" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise SinkError(f"{key}: {path} cannot be read: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise SinkError(f"{key}: {path} must be UTF-8 text") from error
    if not text:
        raise SinkError(f"{key}: {path} must contain a password, got nothing")
    return text


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
