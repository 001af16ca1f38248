"""The page's HTTP server: uvicorn with limits on connections, slow requests and slow readers."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from monitor.config import Config, WebConfig
from monitor.errors import ConfigError, StethosError
from monitor.files import foreign_owner, read_regular, user_state_dir
from monitor.log_limit import LogLimit
from monitor.web.access.gate import MAX_HEAD
from monitor.web.access.passwords import Passwords
from monitor.web.app import make_app
from monitor.web.page import NOT_BUILT, STATIC

log = logging.getLogger(__name__)
MAX_CLIENTS = 200
HEAD_WITHIN_S = 10.0  # a request's head
READ_WITHIN_S = 30.0  # a client that reads nothing of a response for this long is disconnected
KEEP_ALIVE_S = 15
ABORT_S, STOP_S = 0.5, 3  # at the stop, streams end after the first, whatever else is running after the second
MAX_PEM = 1_000_000
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"


class LimitedProtocol(H11Protocol):
    """One connection. One too many, or one that is too slow, is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > MAX_CLIENTS:
            transport.write(BUSY)
            transport.close()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Pass it on; wait for the rest of a head."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._head is None:
            self._await_head()

    def on_response_complete(self) -> None:
        """Between requests, uvicorn's keep-alive limits the wait."""
        self._stop_waiting()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(READ_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def shutdown(self) -> None:
        """At the stop of the page, give a response a moment."""
        super().shutdown()
        self.loop.call_later(ABORT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._stop_waiting()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def state_dir(config: WebConfig, environment: Mapping[str, str]) -> Path:
    """The folder of passwords and sessions: configured, systemd's, the unit's if this user may write there, or the user's."""
    if config.state_dir is not None:
        return config.state_dir
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib") / config.unit
    folder = user_state_dir(environment, config.unit)
    if folder is None:
        raise StethosError(f"{config.section}.state_dir must be set, because this user has no home")
    return folder


def run_server(config: Config, environment: Mapping[str, str]) -> int:
    """Serve the page until stopped by a signal; return the exit status."""
    folder = state_dir(config.web, environment)
    make = partial(make_app, config.web, socket=config.runtime_dir / "control.sock", state_dir=folder)
    return run_site(config.web, folder, make)


def run_site(web: WebConfig, folder: Path, make: Callable[..., ASGIApp]) -> int:
    """Serve what `make(failed=…)` returns until stopped by a signal; return the exit status."""
    if (owner := foreign_owner(folder)) is not None:  # who could lead root's writes elsewhere by links
        raise ConfigError(
            f"the {web.served}'s folder {folder} belongs to user {owner}: run as that user (systemctl start {web.unit}), "
            "not as root"
        )
    _check_certificate(web)
    failures: list[str] = []

    def failed() -> None:
        failures.append("feed")
        server.should_exit = True

    app = make(failed=failed)
    is_open = Passwords(folder).is_set
    address = web.listen if is_open else "127.0.0.1"
    listener = _listen(address, web.port)
    scheme = "http" if web.tls is None else "https"
    log.info("the %s is at %s://%s:%d%s/", web.served, scheme, _named(address), listener.getsockname()[1], web.base_path)
    if not is_open:
        log.info("only this computer may see it: set a password (%s --set-password), then restart it", web.command)
    if not (STATIC / "index.html").exists():
        log.warning("%s", NOT_BUILT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogLimit())
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every odd request, and advises other packages
    server = uvicorn.Server(uvicorn.Config(app, **_options(web)))
    try:
        with listener:
            asyncio.run(_serve(server, listener, is_encrypted=web.tls is not None))
    except KeyboardInterrupt:
        pass
    return 1 if failures or not server.started else 0


async def _serve(server: uvicorn.Server, listener: socket.socket, *, is_encrypted: bool) -> None:
    if is_encrypted:  # asyncio waits a minute for a handshake, and uvicorn does not count such connections
        loop = asyncio.get_running_loop()
        loop.create_server = partial(loop.create_server, ssl_handshake_timeout=HEAD_WITHIN_S)  # type: ignore[method-assign]
    await server.serve(sockets=[listener])


def _check_certificate(web: WebConfig) -> None:
    """ConfigError if the certificate or its key cannot be used."""
    if web.tls is None:
        return
    files = {web.tls.certificate: "certificate", web.tls.key: "key"}
    try:
        for path in files:
            read_regular(path, max_bytes=MAX_PEM)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(web.tls.certificate, web.tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{web.section}.tls: {web.tls.certificate} and {web.tls.key} do not fit: {error}") from None
    except OSError as error:
        raise ConfigError(f"{web.section}.tls.{files[path]} {path}: {error.strerror}") from None


def _options(web: WebConfig) -> dict[str, Any]:
    options: dict[str, Any] = {
        "http": LimitedProtocol,
        "ws": "none",
        "lifespan": "on",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": STOP_S,
        "h11_max_incomplete_event_size": MAX_HEAD,
        "backlog": MAX_CLIENTS,
    }
    if web.tls is not None:
        options |= {"ssl_certfile": str(web.tls.certificate), "ssl_keyfile": str(web.tls.key)}
    return options


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=MAX_CLIENTS, dualstack_ipv6=address == "::")
    except OSError as error:
        raise StethosError(
            f"{_named(address)}:{port}: cannot be listened on: {os.strerror(error.errno) if error.errno else error}"
        ) from None


def _named(address: str) -> str:
    return f"[{address}]" if ":" in address else address
