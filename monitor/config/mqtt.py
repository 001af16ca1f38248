"""The section `mqtt`: the broker and the connection to it."""

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from monitor.config.fields import ConfigPath, Section

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


def _no_truth(value: object) -> object:
    """Reject YAML's `true` and `false` where a number is expected."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {str(value).lower()}")
    return value


def _in_digits(value: object) -> object:
    """Accept a version of a single digit, which YAML reads as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TlsConfig(Section):
    """Trusted authorities and the certificate of this node. `tls: {}` trusts the system's authorities."""

    ca: ConfigPath | None = None
    certificate: ConfigPath | None = None
    key: ConfigPath | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "TlsConfig":
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            raise ValueError(f"certificate and key must be set together, got no {missing}")
        return self


class MqttConfig(Section):
    """The broker, the connection to it, the prefix of all topics, and the limits of what is stored while it is unreachable."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_no_truth)] = 1883  # 8883 with TLS
    prefix: Prefix = "stethos"
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_in_digits)] = "3.1.1"
    client_id: ClientId | None = None  # default: stethos-<node>
    tls: TlsConfig | None = None
    plain_text: Literal["loopback", "allowed"] = "loopback"
    user: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    password_file: ConfigPath | None = None
    password_credential: Credential | None = None
    keepalive_s: Annotated[int, Field(ge=2, le=3_600), BeforeValidator(_no_truth)] = 30
    reconnect_min_s: Annotated[float, Field(ge=0.1, le=60), BeforeValidator(_no_truth)] = 1.0
    reconnect_max_s: Annotated[float, Field(ge=0.1, le=3_600), BeforeValidator(_no_truth)] = 60.0
    max_payload_kb: Annotated[int, Field(ge=1, le=250_000), BeforeValidator(_no_truth)] = 1_024
    outbox_messages: Annotated[int, Field(ge=10, le=1_000_000), BeforeValidator(_no_truth)] = 10_000
    outbox_mb: Annotated[float, Field(ge=0.01, le=1_000), BeforeValidator(_no_truth)] = 16.0

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
        if self.tls is None and self.plain_text != "allowed" and not _is_loopback(self.host):
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
