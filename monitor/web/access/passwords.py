"""The page's passwords, stored as scrypt hashes in a file that only its owner can read."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from monitor.errors import StethosError, UsageError
from monitor.files import as_owner, atomic_write, read_regular

Role = Literal["admin", "viewer"]  # a viewer cannot change anything
ROLES: tuple[Role, ...] = ("admin", "viewer")
MIN_LENGTH, MAX_LENGTH = 8, 200
COST: Mapping[str, int] = {"n": 1 << 14, "r": 8, "p": 5}  # 16 MB, a quarter of a second on a PC, one second on a Raspberry Pi
MAX_MEMORY = 64 << 20
MAX_BYTES = 10_000


def check_length(password: str) -> None:
    """UsageError for a password that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise UsageError(f"a password must have {MIN_LENGTH} to {MAX_LENGTH} characters, got {len(password)}")


class Passwords:
    """The passwords in a folder. A change by another process counts at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "passwords.json"
        self._stamp: tuple[int, int] | None = None
        self._stored: dict[str, dict[str, Any]] = {}

    @property
    def is_set(self) -> bool:
        """Whether there is an administrator's password. A damaged file counts as one that nobody knows."""
        try:
            return "admin" in self._load()
        except StethosError:
            return True

    def version(self, role: Role) -> str | None:
        """A text that changes whenever the role's password does; None if it has none."""
        try:
            return str(self._load()[role]["salt"])
        except (KeyError, StethosError):
            return None

    def role_of(self, password: str) -> Role | None:
        """The role with this password. Takes up to a second for each password that is set."""
        stored = self._load()
        found: Role | None = None
        for role in ROLES:
            if role in stored and found is None and _matches(stored[role], password):
                found = role
        return found

    def set(self, role: Role, password: str) -> None:
        """Store a role's password."""
        check_length(password)
        stored = dict(self._load()) if role == "viewer" else {key: one for key, one in self._readable().items() if key != role}
        if role == "viewer" and "admin" not in stored:
            raise UsageError("set the administrator's password first (--set-password)")
        if any(_matches(one, password) for key, one in stored.items() if key != role):
            raise UsageError("the two passwords must differ")
        salt = secrets.token_bytes(16)
        stored[role] = {"salt": salt.hex(), "hash": _hash(password, salt, **COST).hex(), **COST}
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with as_owner(folder) as inside:
            atomic_write(inside / self.path.name, json.dumps(stored).encode(), mode=0o600)

    def _readable(self) -> dict[str, dict[str, Any]]:
        """The stored passwords; none if the file is damaged, because a new password replaces it."""
        try:
            return self._load()
        except StethosError:
            return {}

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            with as_owner(self.path.parent) as inside:
                path = inside / self.path.name
                found = path.stat()
                if (stamp := (found.st_mtime_ns, found.st_ino)) != self._stamp:
                    self._stored = _parse(read_regular(path, max_bytes=MAX_BYTES, within=inside))
                    self._stamp = stamp
        except FileNotFoundError:
            self._stored, self._stamp = {}, None
        except OSError as error:
            raise StethosError(f"{self.path}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise StethosError(f"{self.path} is damaged; set the password again: monitor web --set-password") from None
        return self._stored


def _parse(content: bytes) -> dict[str, dict[str, Any]]:
    stored = json.loads(content)
    for role, one in stored.items():
        if role not in ROLES or {key: one[key] for key in COST} != COST or len(bytes.fromhex(one["salt"])) < 16:
            raise ValueError(role)
        bytes.fromhex(one["hash"])
    return dict(stored)


def _matches(stored: Mapping[str, Any], password: str) -> bool:
    hashed = _hash(password, bytes.fromhex(stored["salt"]), **{key: stored[key] for key in COST})
    return hmac.compare_digest(hashed, bytes.fromhex(stored["hash"]))


def _hash(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=MAX_MEMORY, dklen=32)
