"""The page as an ASGI application: its routes behind the gate."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from monitor.config.web import WebConfig
from monitor.web.access.gate import Gate
from monitor.web.access.login import Logins
from monitor.web.access.passwords import Passwords
from monitor.web.access.sessions import Sessions
from monitor.web.api import COMMANDS, Api
from monitor.web.feed import Feed
from monitor.web.page import serve
from monitor.web.problems import Problem, problem_response
from monitor.web.service import Away, Refused, Service

log = logging.getLogger(__name__)
STOP_S = 1.0
OPENAPI = Path(__file__).with_name("openapi.json")


def make_app(config: WebConfig, *, socket: Path, state_dir: Path, failed: Callable[[], None]) -> ASGIApp:
    """The page for the service at a control socket. `failed` is called if its connection ends by an error of ours."""
    service = Service(socket)
    feed = Feed(service)
    passwords = Passwords(state_dir)
    sessions = Sessions(state_dir, passwords)
    api, logins = Api(service, feed), Logins(passwords, sessions, node=lambda: feed.node.get("node"))

    async def openapi(_: Request) -> Response:
        return FileResponse(OPENAPI, media_type="application/json")

    one = "/api/machines/{machine}"
    routes = [
        Route("/api/machines", api.machines),
        Route(one, api.machine),
        Route(f"{one}/history", api.history),
        Route(f"{one}/events", api.events),
        Route(f"{one}/live.pcm", api.live),
        *(Route(f"{one}/{name}", api.command(name), methods=["POST"]) for name in COMMANDS),
        Route("/api/events/{event}", api.event),
        Route("/api/events/{event}/clip.flac", api.clip),
        Route("/api/events/{event}/picture.png", api.picture),
        Route("/api/node", api.node),
        Route("/api/settings", api.settings),
        Route("/api/stream", api.stream),
        Route("/api/openapi.json", openapi),
    ]
    site = make_site(routes, logins, run=feed.run, metrics=api.metrics, failed=failed)
    return Gate(site, config=config, passwords=passwords, sessions=sessions)


def make_site(
    routes: Sequence[Route],
    logins: Logins,
    *,
    run: Callable[[], Coroutine[Any, Any, None]],
    metrics: Callable[[Request], Awaitable[Response]],
    failed: Callable[[], None],
) -> Starlette:
    """The routes with logins, metrics and the page's files, for a gate around them.

    `run` is a task for as long as they are served; `failed` is called if it ends earlier.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                log.critical("the connection failed", exc_info=task.exception())
                failed()

        task = asyncio.create_task(run())
        task.add_done_callback(ended)
        yield
        task.cancel()
        await asyncio.wait((task,), timeout=STOP_S)

    async def metrics_for_all(request: Request) -> Response:
        await logins.check_header(request)
        return await metrics(request)

    site = Starlette(
        routes=[
            Route("/api/session", logins.session),
            Route("/api/login", logins.login, methods=["POST"]),
            Route("/api/logout", logins.logout, methods=["POST"]),
            *routes,
            Route("/metrics", metrics_for_all),
            Route("/api{rest:path}", _nothing),
            Route("/{rest:path}", serve),
        ],
        lifespan=lifespan,
        exception_handlers={
            Problem: problem_response,
            Away: _away,
            Refused: _away,
            HTTPException: _http,
            Exception: problem_response,
        },
    )
    site.router.redirect_slashes = False
    return site


async def _nothing(_: Request) -> Response:
    raise HTTPException(404)


def _away(request: Request, error: Exception) -> Response:
    return problem_response(request, Problem(503, str(error), headers={"Retry-After": "2"}))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {404: "there is nothing at this address", 405: "this address does not have this method"}
    text = detail.get(error.status_code, HTTPStatus(error.status_code).phrase)
    return problem_response(request, Problem(error.status_code, text, headers=dict(error.headers or {})))
