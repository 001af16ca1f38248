"""Settings: defaults, then YAML, then the environment (STETHOS_…), validated; every error names its key."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from monitor.bundle.manifest import one_line
from monitor.bundle.yaml_file import read_mapping
from monitor.core.errors import ConfigError

ENVIRONMENT_PREFIX = "STETHOS_"
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$")]
Host = Annotated[str, StringConstraints(max_length=253, pattern=r"^[!-~]+$")]
Prefix = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^/+#\s\x00-\x1f]+(/[^/+#\s\x00-\x1f]+)*$")]
SELECTOR = r"^(default|name:.+|usb:[0-9a-f]{4}:[0-9a-f]{4}(:.+)?|usb-port:[0-9]+-[0-9]+(\.[0-9]+)*|index:[0-9]+)$"
Selector = Annotated[str, StringConstraints(pattern=SELECTOR)]


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path


ConfigPath = Annotated[Path, AfterValidator(_beside_the_file)]  # a relative one counts from the configuration file


def _no_truth(value: object) -> object:
    """YAML's `true` is no number."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {str(value).lower()}")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Section):
    """Whom to trust, and the certificate that this node shows. `tls: {}` trusts the system's authorities."""

    ca: ConfigPath | None = None
    certificate: ConfigPath | None = None
    key: ConfigPath | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "TlsConfig":
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            raise ValueError(f"certificate and key belong together, got no {missing}")
        return self


class MqttConfig(_Section):
    """Where the broker is, how to reach it, what every topic begins with and how much is kept while it cannot be reached."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_no_truth)] = 1883  # 8883 with TLS
    prefix: Prefix = "stethos"
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(str)] = "3.1.1"
    client_id: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")] | None = None  # default: stethos-<node>
    tls: TlsConfig | None = None
    plain_text: Literal["loopback", "allowed"] = "loopback"
    user: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    password_file: ConfigPath | None = None
    password_credential: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    keepalive_s: Annotated[int, Field(ge=2, le=3_600), BeforeValidator(_no_truth)] = 30
    reconnect_min_s: Annotated[float, Field(ge=0.1, le=60), BeforeValidator(_no_truth)] = 1.0
    reconnect_max_s: Annotated[float, Field(ge=0.1, le=3_600), BeforeValidator(_no_truth)] = 60.0
    outbox_messages: Annotated[int, Field(ge=10, le=1_000_000), BeforeValidator(_no_truth)] = 10_000
    outbox_mb: Annotated[float, Field(ge=0.01, le=1_000), BeforeValidator(_no_truth)] = 16.0

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: object) -> object:
        if not isinstance(settings, dict):
            return settings
        if "password" in settings:
            raise ValueError(
                "password must not stand in the configuration: put it into a file and say `password_file: FILE`, or give the "
                "service `LoadCredential=mqtt-password:FILE` and say `password_credential: mqtt-password`"
            )
        return {"port": 8883, **settings} if settings.get("tls") is not None else settings

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttConfig":
        if self.tls is None and self.plain_text != "allowed" and not _is_loopback(self.host):
            raise ValueError(f"plain text goes to this computer only, got host {self.host}: set tls, or plain_text: allowed")
        if self.password_file is not None and self.password_credential is not None:
            raise ValueError("password_file and password_credential exclude each other, got both")
        if self.user is None and (self.password_file or self.password_credential) is not None:
            raise ValueError("user must be given with a password, got none")
        if self.reconnect_min_s > self.reconnect_max_s:
            raise ValueError(
                f"reconnect_min_s must be at most reconnect_max_s ({self.reconnect_max_s}), got {self.reconnect_min_s}"
            )
        return self


class IdleConfig(_Section):
    """When a machine counts as switched off, and what that means."""

    below_dbfs: Literal["learned"] | Annotated[float, Field(ge=-200, le=0)] | None = "learned"
    means: Literal["idle", "anomaly", "score"] = "idle"


class MachineConfig(_Section):
    """One machine that this node listens to."""

    bundle: ConfigPath
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    microphone: Selector = "default"
    channel: Annotated[int, Field(ge=1, le=256)] | None = None
    microphone_rate_hz: Annotated[int, Field(ge=4_000, le=384_000)] | None = None
    enabled: bool = True
    idle: IdleConfig = IdleConfig()


class Config(_Section):
    """Everything that can be set."""

    node: Slug = "replay"
    state_dir: ConfigPath = Path("/var/lib/stethos")
    runtime_dir: ConfigPath = Path("/run/stethos")
    mqtt: MqttConfig = MqttConfig()
    machines: dict[Slug, MachineConfig] = {}


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read the configuration; ConfigError says in one line which key is wrong and what is allowed."""
    settings: dict[str, Any] = {} if path is None else read_mapping(path)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _override(settings, name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), text)
    settings.setdefault("state_dir", _state_dir(environment))
    settings.setdefault("runtime_dir", _runtime_dir(environment))
    try:
        return Config.model_validate(settings, context={"folder": Path() if path is None else path.parent})
    except ValidationError as error:
        raise ConfigError(f"{path or 'environment'}: {one_line(error)}") from error


def _state_dir(environment: Mapping[str, str]) -> Path:
    """Where systemd says, else where a person's programs keep such things."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given)
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "stethos"


def _runtime_dir(environment: Mapping[str, str]) -> Path:
    """Where systemd says, else where the service is if it runs (the tools ask it), else the person's own."""
    if given := environment.get("RUNTIME_DIRECTORY"):
        return Path(given)
    service, own = Path("/run/stethos"), environment.get("XDG_RUNTIME_DIR")
    return service if service.is_dir() or not own else Path(own) / "stethos"


def _override(settings: dict[str, Any], keys: list[str], text: str) -> None:
    """Put the text of STETHOS_MQTT__HOST at settings["mqtt"]["host"]; pydantic makes a number of it where one belongs."""
    *parents, last = keys
    for key in parents:
        below = settings.get(key)
        settings[key] = below if isinstance(below, dict) else {}
        settings = settings[key]
    settings[last] = text
