"""Credentials: TLS context and password, read anew for every connection."""

import os
import ssl
from pathlib import Path

from monitor.config import MqttConfig, TlsConfig
from monitor.errors import SinkError


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or later, with certificate and host name of the broker verified. SinkError names the invalid file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"mqtt.tls.ca: {tls.ca} is not a readable PEM certificate: {_reason(error)}") from error
    if tls.certificate is not None and tls.key is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            files = f"{tls.certificate} and {tls.key}"
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
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        name = config.password_credential
        raise SinkError(f"mqtt.password_credential: {name} must be given by systemd (LoadCredential={name}:FILE), got none")
    return _secret("mqtt.password_credential", Path(folder) / config.password_credential)


def _secret(key: str, path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SinkError(f"{key}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SinkError(f"{key}: {path} must be UTF-8 text") from error
    if not text:
        raise SinkError(f"{key}: {path} must contain a password, got nothing")
    return text


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
