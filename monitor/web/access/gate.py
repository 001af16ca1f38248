"""The gate through which every request passes: host, proxy headers, origin, size, session, and the headers of the response."""

import asyncio
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import IPv6Address, ip_address
from itertools import chain

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.config.web import Network, WebConfig
from monitor.web.access.passwords import Passwords, Role
from monitor.web.access.sessions import Sessions
from monitor.web.problems import Problem, problem_response

COOKIE = "stethos_session"
HEADER = "x-stethos"
MAX_HEAD = 16_384
MAX_BODY = 16_384
BODY_WITHIN_S = 10.0
DRAIN_S = 2.0
CLOSED = ("/api", "/metrics")  # without a session
OPEN = ("/api/session", "/api/login", "/metrics")  # metrics have a login of their own
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@/\s]+))(?::[0-9]{1,5})?")
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-ingress-path")


@dataclass
class Visitor:
    """Who sent a request, as `scope["visitor"]`. `role` is None without a session."""

    address: str
    host: str
    is_encrypted: bool
    role: Role | None = None
    token: str | None = field(default=None, repr=False)
    still_allowed: Callable[[], bool] = lambda: True  # for responses that last


def visitor(request: Request) -> Visitor:
    """The sender of a request that has passed the gate."""
    found: Visitor = request.scope["visitor"]
    return found


class Gate:
    """ASGI middleware around the whole page. Addresses that begin as in CLOSED need a session, except those in OPEN."""

    def __init__(self, app: ASGIApp, *, config: WebConfig, passwords: Passwords, sessions: Sessions) -> None:
        self._app = app
        self._config = config
        self._passwords = passwords
        self._sessions = sessions
        name = socket.gethostname().lower()
        short = name.partition(".")[0]
        self._hosts = {"localhost", name, short, f"{short}.local", *(host.lower().strip("[]") for host in config.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(CLOSED):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            receive = await self._let_in(scope, receive)
        except Problem as problem:
            if not await _is_drained(receive):
                problem.headers["Connection"] = "close"
            await problem_response(Request(scope), problem)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    async def _let_in(self, scope: Scope, receive: Receive) -> Receive:
        """Check a request; return the channel from which the page reads its body."""
        if sum(map(len, (scope["raw_path"], scope.get("query_string", b""), *chain(*scope["headers"])))) > MAX_HEAD:
            raise Problem(431, f"the head of a request must have at most {MAX_HEAD} bytes")
        headers = Headers(scope=scope)
        who = scope["visitor"] = self._visitor(scope, headers)
        has_password = self._passwords.is_set
        self._check_host(who.host, has_password)
        scope["path"], scope["raw_path"] = (_below(scope[key], self._config.base_path) for key in ("path", "raw_path"))
        if has_password:
            who.token = _cookie(headers)
            who.role = self._sessions.role(who.token)
            who.still_allowed = lambda: self._sessions.role(who.token) == who.role
        elif _is_loopback(who.address) and not any(name in headers for name in FORWARDED):
            who.role = "admin"
        else:
            raise Problem(
                403, f"no password is set, so only this computer may see the page: {self._config.command} --set-password"
            )
        path = scope["path"]
        if who.role is None and path.startswith(CLOSED) and path not in OPEN:
            raise Problem(401, "log in first")
        if scope["method"] in ("GET", "HEAD"):
            return receive
        if scope["method"] != "POST":
            raise Problem(405, "method must be GET or POST", headers={"Allow": "GET, HEAD, POST"})
        _check_sender(headers, who)
        if who.role == "viewer" and path not in ("/api/login", "/api/logout"):
            raise Problem(403, "this login may only look; log in as administrator")
        return await _body(headers, receive)

    def _visitor(self, scope: Scope, headers: Headers) -> Visitor:
        """Who it is, with what named proxies say about it."""
        address = _plain((scope.get("client") or ("", 0))[0])
        host, scheme = headers.get("host", ""), scope["scheme"]
        if _is_in(address, self._config.proxies):
            addresses = map(_plain, _forwarded(headers, "for"))
            address = [address, *(one for one in addresses if not _is_in(one, self._config.proxies))][-1]
            host = [host, *_forwarded(headers, "host")][-1]
            scheme = [scheme, *_forwarded(headers, "proto")][-1]
        return Visitor(address, host.lower(), scheme == "https")

    def _check_host(self, given: str, has_password: bool) -> None:
        """Names that are not ours may lead here by DNS rebinding; addresses cannot."""
        name = _hostname(given)
        try:
            is_address, is_local = True, ip_address(name).is_loopback
        except ValueError:
            is_address, is_local = False, name == "localhost"
        if not (is_local or (has_password and (is_address or name in self._hosts))):
            raise Problem(
                403, f"host must be an address or name of this computer, or listed in {self._config.section}.hosts, got another"
            )


def _forwarded(headers: Headers, what: str) -> list[str]:
    """The values of a header of proxies, the nearest last. Some proxies add a line to those that the client has sent."""
    values = ",".join(headers.getlist(f"x-forwarded-{what}")).split(",")
    return [one.strip() for one in values if one.strip()]


def _hostname(host: str) -> str:
    """The host without its port; empty if it is not a host."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1] or found[2]


def _plain(address: str) -> str:
    """The address without brackets or zone, IPv4 as such."""
    try:
        ip = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address[:100]
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_in(address: str, networks: Collection[Network]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)


def _below(path: str | bytes, base: str) -> str | bytes:
    """The path without the base path, if it begins with it. A proxy may have removed it already."""
    if isinstance(path, bytes):
        return _below(path.decode("latin-1"), base).encode("latin-1")  # type: ignore[union-attr]
    return path[len(base) :] or "/" if base and (path == base or path.startswith(f"{base}/")) else path


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _check_sender(headers: Headers, who: Visitor) -> None:
    """Refuse what another site's page could make a browser send. A program that is no browser sends no Origin."""
    if headers.get(HEADER) != "1":
        raise Problem(403, "the header X-Stethos must be 1")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Problem(403, "the request comes from another site")
    if (origin := headers.get("origin")) is not None and origin.partition("://")[2].lower() != who.host:
        raise Problem(403, "the request comes from another origin; a proxy must pass the header Host on, with the port")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "content type must be application/json")


async def _is_drained(receive: Receive) -> bool:
    """Read what is left of a small body: closing the connection before would lose the response on its way."""

    async def drain() -> bool:
        n_bytes = 0
        while n_bytes <= MAX_BODY:
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                return True
        return False

    try:
        return await asyncio.wait_for(drain(), DRAIN_S)
    except asyncio.TimeoutError:
        return False


async def _body(headers: Headers, receive: Receive) -> Receive:
    """Read the body, which is small and arrives soon."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > MAX_BODY:
        raise Problem(413, f"body must have at most {MAX_BODY} bytes")
    body = bytearray()

    async def read() -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "the client is gone")
            body.extend(message.get("body", b""))
            more = message.get("more_body", False)
            if len(body) > MAX_BODY:
                raise Problem(413, f"body must have at most {MAX_BODY} bytes")

    try:
        await asyncio.wait_for(read(), BODY_WITHIN_S)
    except asyncio.TimeoutError:
        raise Problem(408, f"the body must arrive within {BODY_WITHIN_S:.0f} s") from None
    whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def replay() -> Message:
        nonlocal whole
        message, whole = whole, None
        return await receive() if message is None else message

    return replay
