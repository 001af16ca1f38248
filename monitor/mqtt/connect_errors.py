"""Readable causes of failed connections to the broker."""

import ssl

# Problems of the broker's certificate, by OpenSSL's X509_V_ERR_….
_CERTIFICATE = {
    9: "is not valid yet (is the clock of this computer right?)",
    10: "has expired (or the clock of this computer is wrong)",
    18: "is self-signed, not signed by an authority in mqtt.tls.ca",
    19: "is signed by an authority that is not in mqtt.tls.ca",
    20: "is signed by an authority that is not in mqtt.tls.ca",
    62: "is for another host",
    64: "is for another address",
}
_CLOSED = "it closed the connection during the handshake (does it speak TLS on this port?)"
# Reasons why the broker refused TLS, by words in OpenSSL's message.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it requires a client certificate (mqtt.tls.certificate and key)",
    "HANDSHAKE_FAILURE": "no common parameters: it may require a client certificate (mqtt.tls.certificate and key)",
    "UNKNOWN_CA": "it does not trust the authority of our certificate (mqtt.tls.certificate)",
    "CERTIFICATE_EXPIRED": "our certificate has expired (mqtt.tls.certificate)",
    "BAD_CERTIFICATE": "it rejects our certificate (mqtt.tls.certificate)",
    "CERTIFICATE_UNKNOWN": "it rejects our certificate (mqtt.tls.certificate)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "UNEXPECTED_EOF": _CLOSED,
}


def connect_error_text(error: Exception) -> str:
    """The text after `mqtt: HOST:PORT …` when connecting raised `error`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong = _CERTIFICATE.get(error.verify_code, f"cannot be verified: {error.verify_message}")
        detail = f" ({error.verify_message.rstrip('.')})" if error.verify_code in (62, 64) else ""
        return f"is not trusted: its certificate {wrong}{detail}"
    if isinstance(error, ssl.SSLError):
        return f"refused TLS: {alert(str(error)) or error.reason or error}"
    if isinstance(error, ConnectionResetError):  # TCP was already connected, so TLS had begun
        return f"refused TLS: {_CLOSED}"
    return f"cannot be reached: {error}"


def alert(message: str) -> str | None:
    """The meaning of the broker's TLS alert in a message of OpenSSL; None if there is no alert."""
    flat = message.upper().replace(" ", "_")
    return next((meaning for word, meaning in _ALERTS.items() if word in flat), None)
