"""Sessions of browsers that have logged in. The page restarts without logging anybody out."""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from monitor.files import atomic_write, read_regular
from monitor.web.access.passwords import ROLES, Passwords, Role

log = logging.getLogger(__name__)
LASTS_S = 30 * 86_400
MAX_SESSIONS = 1_000  # then the oldest end
MAX_BYTES = 1_000_000


class Sessions:
    """Tokens and what they allow. Only hashes of tokens are stored. A session ends when its role's password changes."""

    def __init__(self, folder: Path, passwords: Passwords, *, now: Callable[[], float] = time.time) -> None:
        self._path = folder / "sessions.json"
        self._passwords = passwords
        self._now = now
        self._sessions: dict[str, tuple[Role, str, float]] = self._load()  # by hash: role, password's version, end

    def begin(self, role: Role) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        version = self._passwords.version(role) or ""
        self._sessions[_hash(token)] = (role, version, self._now() + LASTS_S)
        self._sessions = {key: one for key, one in self._sessions.items() if one[2] > self._now()}
        while len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def role(self, token: str | None) -> Role | None:
        """What a token allows; None if there is no such session, or it is over."""
        role, version, ends = self._sessions.get(_hash(token or ""), (None, "", 0.0))
        return role if role is not None and ends > self._now() and version == self._passwords.version(role) else None

    def end(self, token: str | None) -> None:
        """Log out."""
        self._sessions.pop(_hash(token or ""), None)

    def save(self) -> None:
        """Write the sessions to disk."""
        try:
            atomic_write(self._path, json.dumps(self._sessions).encode(), mode=0o600)
        except OSError as error:
            log.warning("%s: sessions end with this process: %s", self._path, error.strerror)

    def _load(self) -> dict[str, tuple[Role, str, float]]:
        try:
            stored = json.loads(read_regular(self._path, max_bytes=MAX_BYTES, within=self._path.parent))
            sessions = {str(key): (role, str(version), float(ends)) for key, (role, version, ends) in stored.items()}
            return {key: one for key, one in sessions.items() if one[0] in ROLES and one[2] <= self._now() + LASTS_S}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            log.warning("%s is damaged: everybody must log in again", self._path)
            return {}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
