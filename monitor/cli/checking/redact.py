"""Redact passwords, user names, host names, serial numbers and addresses in text."""

import getpass
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HIDDEN = "<hidden>"
_SECRET = r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credential|api[_-]?key|private[_-]?key|psk|authorization)"
_SECRET_KEY = re.compile(rf"(?i)(?<![a-z]){_SECRET}s?(?:_(?:file|credential))?$")
_SYSTEM_USERS = {"root", "stethos", "nobody", "daemon"}
_NO_HOSTS = {"localhost", "localhost.localdomain", "127.0.0.1", "::1", ""}
_HOST_NAMES = ("/etc/hostname", "/proc/sys/kernel/hostname")
_SERIALS = (  # of the computer and of its USB devices
    *("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/device-tree/serial-number"),
    *(
        "/sys/class/dmi/id/*_serial",
        "/sys/class/dmi/id/product_uuid",
        "/sys/bus/usb/devices/*/serial",
        "/sys/block/*/device/serial",
    ),
)
_MIN_SERIAL = 4  # characters; shorter ones are words of other texts
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic) [\w+/=.-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL), HIDDEN),
    (re.compile(r"(\w://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (re.compile(rf"(?i)(?<![a-z])({_SECRET}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(\busb:[0-9a-f]{4}:[0-9a-f]{4}:)[^\s\"',;:|]+"), r"\1<serial>"),
    (re.compile(r"(?i)(?<![a-z])(serial(?:[ _-]?(?:number|no))?[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)"), r"\1<serial>"),
    (re.compile(r"(/home/|/Users/)[^/\s\"':]+"), r"\1<user>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<mail>"),
    (re.compile(r"\b[\w-]+\.(?:local|lan|home|internal|fritz\.box)\b", re.IGNORECASE), "<host>"),
    (re.compile(r"(?<![\d.])(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"), "<address>"),
    (re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}(?![\w:])"), "<address>"),
    (re.compile(r"(?i)(?<![\w:])[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?(?![\w:])"), "<address>"),
)


class Redactor:
    """Replaces text that looks like a secret, and the names in `hidden`, which maps each of them to its replacement."""

    def __init__(self, hidden: Mapping[str, str]) -> None:
        names = sorted((name for name in hidden if name), key=len, reverse=True)  # longest first
        self._hidden = {name.casefold(): hidden[name] for name in names}
        either = "|".join(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])" for name in names)  # also between underscores, as in topics
        self._names = re.compile(either or r"(?!)", re.IGNORECASE)

    def text(self, text: str) -> str:
        """Redact a text."""
        text = self._names.sub(lambda found: self._hidden[found[0].casefold()], text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def tree(self, value: Any) -> Any:
        """Redact a JSON value. The values of keys that look like secrets or serial numbers are always hidden."""
        if isinstance(value, dict):
            return {self.text(key): self._value(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _value(self, key: str, value: Any) -> Any:
        if value and _SECRET_KEY.search(key):
            return HIDDEN
        return "<serial>" if value and key == "serial" else self.tree(value)


def who_and_where(*, passwords: Iterable[str | None], users: Iterable[str | None], hosts: Iterable[str | None]) -> dict[str, str]:
    """The names for a Redactor: those of this computer and its user, and the given ones."""
    names = {socket.gethostname(), os.environ.get("HOSTNAME", ""), *_contents(_HOST_NAMES)}
    here = {part for name in names for part in (name, name.partition(".")[0])} | set(_words(hosts))
    here = {
        variant for name in here - _NO_HOSTS for variant in (name, re.sub(r"[^A-Za-z0-9]", "_", name), name.replace("_", "-"))
    }
    serials = {serial for serial in _contents(_SERIALS) if len(serial) >= _MIN_SERIAL}
    people = {_user(), os.environ.get("SUDO_USER", ""), *_words(users)} - _SYSTEM_USERS
    home = {_home(): "~"}
    return (
        home
        | dict.fromkeys(serials, "<serial>")
        | dict.fromkeys(here, "<host>")
        | dict.fromkeys(people, "<user>")
        | dict.fromkeys(_words(passwords), HIDDEN)
    )


def _contents(patterns: Iterable[str]) -> Iterator[str]:
    """The text of each file that exists and can be read."""
    for pattern in patterns:
        for path in Path("/").glob(pattern.lstrip("/")):
            with suppress(OSError):
                yield path.read_text(errors="replace").strip().strip("\0")


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # a user id without a home
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return ""


def _words(values: Iterable[str | None]) -> list[str]:
    return [value for value in values if value]
