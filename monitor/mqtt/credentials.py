"""Credentials: TLS context and password, read anew for every connection."""

import ssl

from monitor.config import MqttConfig, TlsConfig
from monitor.config.secrets import PASSED, credential_path, credential_source, is_missing, read_secret
from monitor.errors import SinkError


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or later, with certificate and host name of the broker verified. SinkError names the invalid file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"mqtt.tls.ca: {tls.ca} is not a readable PEM certificate: {_reason(error)}") from error
    if tls.certificate is not None and tls.key is not None:
        key = tls.key
        if key.is_relative_to(PASSED) and is_missing(key):  # outside of the service
            key = credential_source(key.name) or key
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
        return read_secret("mqtt.password_file", config.password_file, what="a password")
    if (name := config.password_credential) is None:
        return None
    key = "mqtt.password_credential"
    return read_secret(key, credential_path(key, name), what="a password")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
