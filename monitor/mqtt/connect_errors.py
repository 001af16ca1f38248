"""Why a connection to the broker failed, in words that say what to look at."""

import ssl

# OpenSSL's X509_V_ERR_…: what is wrong with the broker's certificate
_CERTIFICATE = {
    9: "is not valid yet (is the clock of this computer right?)",
    10: "has expired (or the clock of this computer is wrong)",
    18: "is signed by itself, not by an authority in mqtt.tls.ca",
    19: "is signed by an authority that is not in mqtt.tls.ca",
    20: "is signed by an authority that is not in mqtt.tls.ca",
    62: "is for another host",
    64: "is for another address",
}
_HANGS_UP = "it hangs up during the handshake (does it speak TLS at this port?)"
# words in OpenSSL's message: what the broker holds against us
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a client certificate (mqtt.tls.certificate and key)",
    "HANDSHAKE_FAILURE": "no common ground: it may want a client certificate (mqtt.tls.certificate and key)",
    "UNKNOWN_CA": "it does not know the authority of our certificate (mqtt.tls.certificate)",
    "CERTIFICATE_EXPIRED": "our certificate has expired (mqtt.tls.certificate)",
    "BAD_CERTIFICATE": "it does not accept our certificate (mqtt.tls.certificate)",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate (mqtt.tls.certificate)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS at this port",
    "UNEXPECTED_EOF": _HANGS_UP,
}


def connect_error_text(error: Exception) -> str:
    """What follows `mqtt: HOST:PORT …` when connecting raised `error`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong = _CERTIFICATE.get(error.verify_code, f"cannot be verified: {error.verify_message}")
        detail = f" ({error.verify_message.rstrip('.')})" if error.verify_code in (62, 64) else ""
        return f"is not trusted: its certificate {wrong}{detail}"
    if isinstance(error, ssl.SSLError):
        return f"refuses TLS: {alert(str(error)) or error.reason or error}"
    if isinstance(error, ConnectionResetError):  # of a TCP connection that stood already: TLS had begun
        return f"refuses TLS: {_HANGS_UP}"
    return f"cannot be reached: {error}"


def alert(message: str) -> str | None:
    """What an alert of the broker in OpenSSL's words means; None when there is none in the message."""
    flat = message.upper().replace(" ", "_")
    return next((meaning for word, meaning in _ALERTS.items() if word in flat), None)
