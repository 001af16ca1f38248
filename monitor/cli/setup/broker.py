"""The broker: find it, ask for it, and try it step by step."""

import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.cli.checking.broker_check import try_broker
from monitor.cli.setup.ask import Asker
from monitor.config import MqttConfig
from monitor.config.messages import problems
from monitor.config.mqtt import TlsConfig, is_loopback
from monitor.config.secrets import read_secret
from monitor.errors import SinkError, StethosError, UsageError
from monitor.files import atomic_write
from monitor.mqtt.credentials import password

PORT, TLS_PORT = 1883, 8883
SERVICES = ("_mqtt._tcp", "_secure-mqtt._tcp")
BROWSE_S, PROBE_S = 4.0, 0.7
LIKELY = ("127.0.0.1", "homeassistant.local")  # tried besides what announces itself
PLAIN_TEXT = """\
  {host} is another computer. Without TLS, anybody on the network can read the messages and the password, and send false ones,
  such as `set/disable`. That is usual in a home network that you trust; not in a plant (docs/fleet.md).
  `plain_text: allowed` in the configuration permits it."""


@dataclass(frozen=True)
class Given:
    """What the command line says."""

    broker: str | None
    user: str | None
    password_file: Path | None
    plain_text: bool
    ca: str | None


@dataclass(frozen=True)
class Chosen:
    """The settings of the section `mqtt` that were chosen, and a new password, if there is one."""

    settings: dict[str, Any]
    password: str | None
    keeps_password: bool  # the present one


def choose_broker(asker: Asker, given: Given, present: MqttConfig | None, *, is_fresh: bool, node: str) -> Chosen | None:
    """The broker, tried; None: without one. SinkError if it fails and nobody can be asked."""
    found = [] if given.broker is not None else list(find_brokers())
    for number, one in enumerate(found, start=1):
        print(f"  {number}  {one}")
    default = found[0] if found else "none"
    if not is_fresh:
        default = "none" if present is None else _offered(present)

    def check(answer: str) -> str:
        if answer.isdecimal() and 1 <= int(answer) <= len(found):
            return found[int(answer) - 1]
        if answer != "none":
            address_of(answer)
        return answer

    question = "Its address, as HOST[:PORT], or none"
    is_retry = False
    while True:
        answer = asker.text("broker", question, default=default, given=given.broker, check=check)
        if answer == "none":
            print("  Without a broker: events reach the page, the history, clips and notifications only (mqtt: null).")
            return None
        chosen = _details(asker, given, present, *address_of(answer), asks_tls=is_retry)
        if chosen is None or (answer := _tried(asker, chosen, present, node)) == "c":
            given = Given(None, None, None, False, None)  # they are offered again, as answers so far
            is_retry = True
            continue
        if answer == "n":
            return None
        return chosen


def _offered(present: MqttConfig) -> str:
    """The present broker, without the port that goes with its kind of connection: with TLS it would be another one."""
    usual = PORT if present.tls is None else TLS_PORT
    return present.host if present.port == usual else present.address


def find_brokers() -> Iterator[str]:
    """Brokers that announce themselves in the local network, as avahi-browse lists them, and likely places that answer.

    The port is left out if it is that of plain text, because the same broker may speak TLS.
    """
    found = dict.fromkeys(_announced())
    for host in LIKELY:
        try:
            socket.create_connection((host, PORT), timeout=PROBE_S).close()
        except OSError:
            continue
        found[host] = None
    yield from found


def address_of(text: str) -> tuple[str, int | None]:
    """Host and port of HOST[:PORT]. An IPv6 address with a port is in brackets."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if port and not (port.isdecimal() and 1 <= int(port) <= 65_535):
        raise UsageError(f"the port must be in 1..65535, got {port}")
    try:
        MqttConfig(host=host, plain_text="allowed")
    except ValidationError:
        raise UsageError(f"must be a name or an address, such as broker.local:1883, got {text!r}") from None
    return host, int(port) if port else None


def read_password(option: str, path: Path) -> str:
    """The password in a file that an option of the command line names."""
    try:
        return read_secret(option, path, what="a password")
    except SinkError as error:
        raise UsageError(str(error)) from error


def _announced() -> Iterator[str]:
    if shutil.which("avahi-browse") is None:
        print("  Brokers in the network are found with avahi-browse (package avahi-utils), which is not installed.")
        return
    lines: list[str] = []
    for service in SERVICES:
        command = ["avahi-browse", "--resolve", "--parsable", "--terminate", service]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=BROWSE_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        lines += done.stdout.splitlines()
    for line in lines:  # =;eth0;IPv4;Mosquitto;_mqtt._tcp;local;broker.local;192.168.1.5;1883;"…"
        fields = line.split(";")
        if fields[0] == "=" and len(fields) > 8 and fields[2] == "IPv4":
            yield fields[6] if fields[8] == str(PORT) else f"{fields[6]}:{fields[8]}"


def _details(
    asker: Asker, given: Given, present: MqttConfig | None, host: str, port: int | None, *, asks_tls: bool
) -> Chosen | None:
    """TLS or plain text, user and password; None to choose another broker."""
    before = present or MqttConfig()
    is_same = host == before.host and port in (None, before.port)
    tls = _tls(asker, given.ca, before.tls if is_same else None, host, port, asks=asks_tls)
    if port is None:
        is_kept = is_same and (tls is None) == (before.tls is None)
        port = before.port if is_kept else PORT if tls is None else TLS_PORT
    settings: dict[str, Any] = {"host": host, "port": port, "tls": tls}
    if tls is None and not is_loopback(host):
        print(PLAIN_TEXT.format(host=host))
        is_allowed = given.plain_text or (is_same and before.plain_text == "allowed")
        if not is_allowed and asker.yes:
            raise UsageError(f"{host} is another computer: give --plain-text, or for TLS --ca FILE or --ca system")
        if not given.plain_text and not asker.confirm("Allow it", default=is_allowed):
            return None
        settings["plain_text"] = "allowed"
    user = asker.text("user", "User, or none", default=before.user or "none", given=given.user, check=str)
    settings["user"] = None if user == "none" else user
    is_known = (host, settings["user"]) == (before.host, before.user)
    has_password = is_known and (before.password_file or before.password_credential) is not None
    new = _password(asker, given, settings["user"], has_password=has_password)
    return Chosen(settings, new, has_password and new is None)


def _tls(
    asker: Asker, given: str | None, before: TlsConfig | None, host: str, port: int | None, *, asks: bool
) -> dict[str, Any] | None:
    """The section `tls`; None for plain text. A broker on this computer is asked about only if something speaks for TLS."""
    default = "none" if before is None else str(before.ca or "system")
    if before is None and port == TLS_PORT:
        default = "system"
    if given is None and default == "none" and is_loopback(host) and not asks and asker.so_far("ca") in (None, "none"):
        return None
    question = "TLS: PEM file of the authority that signed the broker's certificate, system for the usual ones, or none"
    ca = asker.text("ca", question, default=default, given=given, check=_authority)
    if ca == "none":
        return None
    return {**({} if before is None else before.model_dump(mode="json")), "ca": None if ca == "system" else ca}


def _authority(answer: str) -> str:
    if answer in ("system", "none"):
        return answer
    try:
        path = Path(answer).expanduser().absolute()
    except RuntimeError:
        raise UsageError(f"{answer}: there is no such user") from None
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise UsageError(f"{path} holds no certificate in PEM format") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return str(path)


def _password(asker: Asker, given: Given, user: str | None, *, has_password: bool) -> str | None:
    """A new password; None: that of before, or none."""
    if user is None:
        return None
    if given.password_file is not None:
        return read_password("--password-file", given.password_file)
    if asker.yes:
        return None
    return asker.secret(f"Password of {user}" + (" (Enter keeps the present one)" if has_password else " (Enter: none)")) or None


def _tried(asker: Asker, chosen: Chosen, present: MqttConfig | None, node: str) -> str:
    """Try it. Return k to keep it, c to choose another one, n for none."""
    while True:
        try:
            if _works(chosen, present, node):
                return "k"
        except StethosError as error:
            print(f"  {error}")
        if asker.yes:
            raise SinkError("the broker does not work, see above; nothing was changed")
        answer = asker.choose("Change the answers (c), try again (t), keep them anyway (k), or no broker (n)?", "ctkn")
        if answer != "t":
            return answer


def _works(chosen: Chosen, present: MqttConfig | None, node: str) -> bool:
    """`monitor mqtt-test` with these settings."""
    before = present or MqttConfig()
    with tempfile.TemporaryDirectory(prefix="stethos-") as folder:
        settings = {**before.model_dump(include={"prefix", "protocol", "client_id"}), **chosen.settings}
        text = password(before) if chosen.keeps_password else chosen.password
        if text is not None:
            settings["password_file"] = Path(folder) / "password"
            atomic_write(settings["password_file"], text.encode(), mode=0o600)
        try:
            config = MqttConfig.model_validate(settings)
        except ValidationError as error:
            raise UsageError(problems(error, MqttConfig)[0][1]) from error
        return try_broker(config, node) == 0
