"""The section `mqtt`: the broker and the connection to it."""

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from monitor.config.fields import ConfigPath, OneLine, Section

Host = Annotated[
    str,
    StringConstraints(max_length=253, pattern=r"^[!-~]+$"),
    Field(json_schema_extra={"patternErrorMessage": "must be a name or an address, without spaces"}),
]
Prefix = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^[^/+#$\s\x00-\x1f][^/+#\s\x00-\x1f]*(/[^/+#\s\x00-\x1f]+)*$"),
    Field(
        json_schema_extra={"patternErrorMessage": "must be words separated by /, without +, # and spaces, and not start with $"}
    ),
]
ClientId = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,200}$"),
    Field(json_schema_extra={"patternErrorMessage": "must be printable ASCII without spaces, 1 to 200 characters"}),
]
Credential = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$"),
    Field(json_schema_extra={"patternErrorMessage": "must be made of letters, digits, _, . and -"}),
]


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, so that plain text does not leave it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TlsConfig(Section):
    """Trusted authorities and the certificate of this node. `tls: {}` trusts the system's authorities."""

    ca: ConfigPath | None = None
    """PEM file of the authorities to trust; null: those of the system."""

    certificate: ConfigPath | None = None
    """PEM file of this node's certificate, if the broker requires one."""

    key: ConfigPath | None = None
    """PEM file of the certificate's key, without a passphrase."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> "TlsConfig":
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            raise ValueError(f"certificate and key must be set together, got no {missing}")
        return self


class MqttConfig(Section):
    """The broker, the connection to it, the prefix of all topics, and the limits of what is stored while it is unreachable."""

    host: Host = "127.0.0.1"
    """Name or address of the broker."""

    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    """TCP port; with tls, the default is 8883."""

    prefix: Prefix = "stethos"
    """First part of every topic; may contain /, but no +, # or space."""

    protocol: Literal["3.1.1", "5"] = "3.1.1"
    """Version of MQTT."""

    client_id: ClientId | None = None
    """MQTT client id of this node; null: stethos-NODE."""

    tls: TlsConfig | None = None
    """Encryption; null: plain text."""

    plain_text: Literal["loopback", "allowed"] = "loopback"
    """Hosts that may be reached without tls: loopback (this computer only) or allowed (any)."""

    user: OneLine | None = None
    """User name; null: anonymous. The password is never stored here, but in one of the next two."""

    password_file: ConfigPath | None = None
    """File that contains only the password."""

    password_credential: Credential | None = None
    """Name of a systemd credential that contains the password, such as mqtt-password."""

    keepalive_s: Annotated[int, Field(ge=2, le=3_600)] = 30
    """MQTT keep-alive in seconds; a dead connection is detected within 1.5 times this."""

    reconnect_min_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """First pause before reconnecting, in seconds; it doubles after each failure."""

    reconnect_max_s: Annotated[float, Field(ge=0.1, le=3_600)] = 60.0
    """Longest pause before reconnecting, in seconds."""

    max_payload_kb: Annotated[int, Field(ge=1, le=250_000)] = 1_024
    """Largest payload in kB. Larger messages are left out; larger events are parked."""

    outbox_messages: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """Maximum number of events stored on disk while the broker is unreachable."""

    outbox_mb: Annotated[float, Field(ge=0.01, le=1_000)] = 16.0
    """Maximum size of these events in MB."""

    @property
    def address(self) -> str:
        """HOST:PORT, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: object) -> object:
        if not isinstance(settings, dict):
            return settings
        if "password" in settings:
            raise ValueError(
                "password must not be in the configuration: write it to a file and set `password_file: FILE`, or give the "
                "service `LoadCredential=mqtt-password:FILE` and set `password_credential: mqtt-password`"
            )
        return {"port": 8883, **settings} if settings.get("tls") is not None else settings

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttConfig":
        if self.tls is None and self.plain_text != "allowed" and not is_loopback(self.host):
            raise ValueError(
                f"without TLS the broker must be on this computer, got host {self.host}: set tls, or plain_text: allowed"
            )
        if self.password_file is not None and self.password_credential is not None:
            raise ValueError("only one of password_file and password_credential can be set, got both")
        if self.user is None and (self.password_file or self.password_credential) is not None:
            raise ValueError("user must be set with a password, got none")
        if self.reconnect_min_s > self.reconnect_max_s:
            raise ValueError(
                f"reconnect_min_s must be at most reconnect_max_s ({self.reconnect_max_s}), got {self.reconnect_min_s}"
            )
        return self
