"""Logging in and out."""

import asyncio
import base64
import hmac
import logging
import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from monitor import __version__
from monitor.errors import StethosError
from monitor.web.access.attempts import Attempts
from monitor.web.access.gate import COOKIE, visitor
from monitor.web.access.passwords import MAX_LENGTH, ROLES, Passwords, Role
from monitor.web.access.sessions import LASTS_S, Sessions
from monitor.web.problems import Problem, validated
from monitor.web.queries import Login, json_body

log = logging.getLogger(__name__)
MAX_WAITING = 8  # logins at once; each takes a second on a small computer


class Logins:
    """The routes `api/session`, `api/login` and `api/logout`, and logins by header for `metrics`."""

    def __init__(
        self, passwords: Passwords, sessions: Sessions, *, node: Callable[[], str | None], is_fleet: bool = False
    ) -> None:
        """`node` returns the node's name, once it is known. `is_fleet`: the page shows many nodes."""
        self._node = node
        self._is_fleet = is_fleet
        self._passwords = passwords
        self._sessions = sessions
        self._attempts = Attempts()
        self._key, self._known = secrets.token_bytes(32), b""
        self._one = asyncio.Lock()
        self._n_waiting = 0

    async def session(self, request: Request) -> Response:
        """Who is logged in."""
        role = visitor(request).role
        return JSONResponse(
            {
                "role": role,
                "needs_password": self._passwords.is_set,
                "name": "Stethos",
                "version": __version__ if role else None,
                "node": self._node() if role else None,
                "fleet": self._is_fleet,
            }
        )

    async def login(self, request: Request) -> Response:
        """Begin a session."""
        given: Login = validated(Login, await json_body(request))
        if not self._passwords.is_set:
            raise Problem(409, "no password is set; this computer needs none")
        role = await self.role_of(given.password, visitor(request).address)
        token = self._sessions.begin(role)
        await asyncio.to_thread(self._sessions.save)
        response = JSONResponse({"role": role})
        # Without a path, the cookie belongs to the folder of this address, `api/`, whatever a proxy puts before it.
        response.set_cookie(
            COOKIE,
            token,
            max_age=LASTS_S,
            path=None,
            secure=visitor(request).is_encrypted,
            httponly=True,
            samesite="strict",
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        self._sessions.end(visitor(request).token)
        await asyncio.to_thread(self._sessions.save)
        response = JSONResponse({"role": None})
        response.set_cookie(COOKIE, "", max_age=0, path=None, httponly=True, samesite="strict")
        return response

    async def check_header(self, request: Request) -> None:
        """Accept a password in the header Authorization, as Prometheus sends it, in place of a session.

        A right password is remembered as a keyed hash, because checking it takes a second.
        """
        if visitor(request).role is not None:
            return
        challenge = {"WWW-Authenticate": 'Basic realm="Stethos", charset="UTF-8"'}
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        password = _basic(given) if scheme.lower() == "basic" else None
        if password is None:
            raise Problem(401, "log in first", headers=challenge)
        version = "".join(str(self._passwords.version(role)) for role in ROLES)
        mark = hmac.digest(self._key, f"{version}:{password}".encode("utf-8", "surrogatepass"), "sha256")
        if not hmac.compare_digest(mark, self._known):
            await self.role_of(password, visitor(request).address)
            self._known = mark

    async def role_of(self, password: str, address: str) -> Role:
        """The role with this password; Problem if it is wrong, or was tried too often."""
        self._check_attempts(address)
        if self._n_waiting >= MAX_WAITING:
            raise Problem(503, "too many logins at once; try again", headers={"Retry-After": "5"})
        self._n_waiting += 1
        try:
            async with self._one:  # one hash at a time: each takes 16 MB
                self._check_attempts(address)  # again, because those before it may have failed
                try:
                    role = await asyncio.to_thread(self._passwords.role_of, password)
                except StethosError as error:
                    log.error("%s", error)
                    raise Problem(503, "the passwords cannot be read; see the page's log") from None
                if role is None:
                    self._attempts.failed(address)
                    raise Problem(401, "wrong password")
                return role
        finally:
            self._n_waiting -= 1

    def _check_attempts(self, address: str) -> None:
        if (wait_s := self._attempts.wait_s(address)) > 0:
            raise Problem(429, "too many wrong passwords; try again later", headers={"Retry-After": str(int(wait_s) + 1)})


def _basic(text: str) -> str | None:
    """The password of HTTP basic authentication; any user name will do."""
    try:
        _, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return password if colon and len(password) <= MAX_LENGTH else None
