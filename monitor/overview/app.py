"""`monitor web --fleet`: the overview as an ASGI application behind the page's gate."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from monitor.config import Config, MqttConfig
from monitor.config.fields import MAX_SNOOZE_S
from monitor.config.fleet import FleetConfig
from monitor.errors import ConfigError, StethosError
from monitor.json_lines import to_json
from monitor.overview.broker import Broker, NotDone
from monitor.overview.feed import FleetFeed
from monitor.overview.fleet import Fleet
from monitor.overview.history import History
from monitor.overview.metrics import fleet_metrics
from monitor.web.access.gate import Gate, visitor
from monitor.web.access.login import Logins
from monitor.web.access.passwords import Passwords
from monitor.web.access.sessions import Sessions
from monitor.web.app import make_site
from monitor.web.metrics import CONTENT_TYPE
from monitor.web.problems import Problem, validated
from monitor.web.queries import EVENT_ID, STRICT, Moment, json_body, query, rfc3339
from monitor.web.stream import Streams

SLUG = re.compile(r"[a-z0-9_-]{1,64}")


class Acknowledge(BaseModel):
    """The body of `ack`."""

    model_config = STRICT

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{1,64}$")] | None = None


class Snooze(BaseModel):
    """The body of `snooze`."""

    model_config = STRICT

    duration_s: Annotated[int, Field(ge=0, le=MAX_SNOOZE_S)] = 3_600


class PastQuery(BaseModel):
    """Rows of the history."""

    model_config = STRICT

    limit: Annotated[int, Field(ge=1, le=500)] = 20


class EventsQuery(BaseModel):
    """Past events; `before` and `after_id` are the onset and id of the last one that is known."""

    model_config = STRICT

    before: Moment | None = None
    after_id: Annotated[str, StringConstraints(pattern=EVENT_ID)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class Api:
    """The routes of the overview. The gate has let each request in, and viewers send no commands."""

    def __init__(self, feed: FleetFeed, broker: Broker, history: History) -> None:
        self._feed, self._broker, self._history = feed, broker, history
        self._streams: Streams[str] = Streams(feed)

    async def fleet(self, _: Request) -> Response:
        """Everything."""
        return Response(to_json(self._feed.whole()), media_type="application/json")

    async def stream(self, request: Request) -> Response:
        """Server-sent events: everything, then what has changed."""
        return self._streams.response(request, None, visitor(request).still_allowed)

    def command(self, name: str, model: type[BaseModel]) -> Callable[[Request], Awaitable[Response]]:
        """The route of a command."""

        async def run(request: Request) -> Response:
            key = self._key(request)
            body: BaseModel = validated(model, await json_body(request))
            if self._feed.fleet.machines[key].node.online is False:
                raise Problem(409, "the node is not connected to the broker")
            try:
                response = await self._broker.command(key, name, **body.model_dump(exclude_none=True))
            except NotDone as error:
                raise Problem(504, str(error)) from None
            if not response.accepted:
                raise Problem(409, response.reason or "refused")
            return JSONResponse(response.model_dump())

        return run

    async def picture(self, request: Request) -> Response:
        """The picture of a machine's last event."""
        try:
            png = await self._broker.picture(self._key(request))
        except NotDone as error:
            raise Problem(404, str(error)) from None
        return Response(png, media_type="image/png")

    async def events(self, request: Request) -> Response:
        """Past events of all machines, the newest first."""
        asked: EventsQuery = query(EventsQuery, request)
        rows = self._history.events(before=asked.before, after_id=asked.after_id or "", limit=asked.limit)
        return JSONResponse({"events": await self._past(rows)})

    async def past(self, request: Request) -> Response:
        """Past events and changes of kind of one machine, the newest first."""
        node, _, machine = self._key(request).partition("/")
        asked: PastQuery = query(PastQuery, request)
        events = await self._past(self._history.events(machine=(node, machine), limit=asked.limit))
        states = await self._past(self._history.states(machine=(node, machine), limit=asked.limit))
        return JSONResponse({"events": events, "states": states})

    async def metrics(self, _: Request) -> Response:
        """OpenMetrics text."""
        text = fleet_metrics(
            self._feed.fleet,
            history_error=self._history.error,
            history_lost=self._history.n_lost,
            messages_lost=self._broker.n_lost,
        )
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def _past(self, rows: Awaitable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        try:
            found = await rows
        except StethosError as error:
            raise Problem(503, str(error), headers={"Retry-After": "5"}) from None
        return [{name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()} for row in found]

    def _key(self, request: Request) -> str:
        node, machine = request.path_params["node"], request.path_params["machine"]
        key = f"{node}/{machine}"
        if not (SLUG.fullmatch(node) and SLUG.fullmatch(machine)) or key not in self._feed.fleet.machines:
            raise Problem(404, "no such machine")
        return key


def make_app(config: FleetConfig, mqtt: MqttConfig, *, state_dir: Path, failed: Callable[[], None]) -> ASGIApp:
    """The overview of the nodes at a broker. `failed` is called if it ends by an error of ours."""
    history = History(config, state_dir)
    fleet = Fleet(config)

    def extra() -> dict[str, Any]:
        return {
            "history": {"error": history.error, "lost": history.n_lost},
            "lost": broker.n_lost,
            "full": fleet.ignored["limit"],
        }

    feed = FleetFeed(fleet, prefix=mqtt.prefix, keep=history.keep, extra=extra)
    broker = Broker(mqtt, on_message=feed.take, on_state=feed.set_connected)
    passwords = Passwords(state_dir)
    sessions = Sessions(state_dir, passwords)
    api, logins = Api(feed, broker, history), Logins(passwords, sessions, node=lambda: None, is_fleet=True)

    async def run() -> None:
        history.start()
        try:
            await asyncio.gather(broker.run(), feed.run())
        finally:
            await asyncio.to_thread(history.stop)

    one = "/api/fleet/{node}/{machine}"
    routes = [
        Route("/api/fleet", api.fleet),
        Route("/api/fleet/events", api.events),
        Route(f"{one}/ack", api.command("ack", Acknowledge), methods=["POST"]),
        Route(f"{one}/snooze", api.command("snooze", Snooze), methods=["POST"]),
        Route(f"{one}/picture.png", api.picture),
        Route(f"{one}/past", api.past),
        Route("/api/stream", api.stream),
    ]
    site = make_site(routes, logins, run=run, metrics=api.metrics, failed=failed)
    return Gate(site, config=config, passwords=passwords, sessions=sessions)


def run_overview(config: Config, environment: Mapping[str, str]) -> int:
    """Serve the overview until stopped by a signal; return the exit status."""
    from monitor.web.server import run_site, state_dir

    if config.mqtt is None:
        raise ConfigError("the overview needs a broker, but mqtt is null in the configuration")
    folder = state_dir(config.fleet, environment)
    mqtt = config.mqtt
    return run_site(config.fleet, folder, lambda failed: make_app(config.fleet, mqtt, state_dir=folder, failed=failed))
