"""The section `web`: the page, which is a process of its own (`monitor web`)."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, StringConstraints

from monitor.config.fields import ConfigPath, Section
from monitor.config.messages import shown
from monitor.config.mqtt import Host

BasePath = Annotated[
    str,
    StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=200),
    Field(json_schema_extra={"patternErrorMessage": "must be a path such as /stethos, without / at its end"}),
]


def _network(value: object) -> object:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError:
        raise ValueError(f"must be an address or a network such as 192.168.1.0/24, got {shown(value)}") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network, json_schema_input_type=str)]


class WebTlsConfig(Section):
    """The page's certificate."""

    certificate: ConfigPath
    """PEM file of the certificate and its chain."""

    key: ConfigPath
    """PEM file of its key, without a passphrase."""


class WebConfig(Section):
    """The page. Without a password it listens on this computer only, whatever `listen` says."""

    section: ClassVar[str] = "web"  # names of the process that it configures, for messages and folders
    unit: ClassVar[str] = "stethos-web"
    command: ClassVar[str] = "monitor web"
    served: ClassVar[str] = "page"

    listen: Host = "0.0.0.0"
    """Address to listen on once a password is set; 127.0.0.1: this computer only; `::`: IPv6 as well."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8470
    """TCP port."""

    hosts: Annotated[tuple[Host, ...], Field(max_length=50)] = ()
    """Names under which browsers reach the page, besides this computer's own name and addresses."""

    proxies: Annotated[tuple[Network, ...], Field(max_length=50)] = ()
    """Addresses or networks of reverse proxies whose X-Forwarded-For, -Proto and -Host headers are believed."""

    base_path: BasePath = ""
    """Path of the page if a reverse proxy passes it on, such as /stethos; not needed if the proxy removes it."""

    tls: WebTlsConfig | None = None
    """Encryption; null: plain HTTP."""

    state_dir: ConfigPath | None = None
    """Folder of the passwords and sessions; null: systemd's (/var/lib/stethos-web), else $XDG_STATE_HOME/stethos-web."""
