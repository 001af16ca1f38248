"""The page's interface: JSON for machines, events, history and commands."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from monitor import __version__
from monitor.json_lines import to_json
from monitor.web.access.gate import visitor
from monitor.web.feed import Feed
from monitor.web.problems import Problem
from monitor.web.queries import EventsQuery, HistoryQuery, json_body, query, rfc3339
from monitor.web.service import Refused, Service
from monitor.web.sound.clips import ClipResponse, Clips
from monitor.web.sound.live import Live, LiveResponse
from monitor.web.stream import Streams
from monitor.web.strip import strip_of, strip_range

COMMANDS = ("ack", "snooze", "enable", "disable", "calibrate", "learn")
CACHE_S = 2.0  # ten viewers who ask the same are one request to the service
STRIP_CACHE_S = 60.0
SETTINGS_WITHIN_S = 60.0  # the service checks them in a process of its own
MAX_CACHED = 64


class Api:
    """Every route but those of logins. The gate has let each request in."""

    def __init__(self, service: Service, feed: Feed) -> None:
        self._service = service
        self._feed = feed
        self._streams = Streams(feed)
        self._clips = Clips(service)
        self._live = Live(feed, service.path)
        self._cached: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    async def machines(self, request: Request) -> Response:
        """All machines."""
        self._check_running()
        machines = [await self._machine(machine) for machine in sorted(self._feed.machines)]
        return JSONResponse({"node": self._feed.node["node"], "machines": machines})

    async def machine(self, request: Request) -> Response:
        """One machine."""
        return JSONResponse(await self._machine(self._named(request)))

    async def metrics(self, request: Request) -> Response:
        """OpenMetrics text."""
        from monitor.web.metrics import CONTENT_TYPE, metrics_text

        feed = self._feed
        node = feed.node if feed.running else None
        text = metrics_text(node, feed.machines, feed.states, event_counts=feed.event_counts)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def history(self, request: Request) -> Response:
        """A machine's scores over a stretch of time."""
        machine, asked = self._named(request), query(HistoryQuery, request)
        to = asked.to or datetime.now(timezone.utc)
        start = asked.from_ or to - timedelta(hours=1)
        arguments = {"from": rfc3339(start), "to": rfc3339(to), "step_s": asked.step}
        return JSONResponse(await self._ask("history", CACHE_S, machine=machine, **arguments))

    async def events(self, request: Request) -> Response:
        """A machine's last events."""
        machine, asked = self._named(request), query(EventsQuery, request)
        before = None if asked.before is None else rfc3339(asked.before)
        arguments = {"before": before, "after_id": asked.after_id, "limit": asked.limit}
        return JSONResponse(await self._ask("events", CACHE_S, machine=machine, **arguments))

    async def event(self, request: Request) -> Response:
        """One event."""
        try:
            answer = await self._service.request("event", id=_event_id(request))
        except Refused as refused:
            raise Problem(404, str(refused)) from None
        return JSONResponse(answer["event"])

    async def clip(self, request: Request) -> Response:
        """An event's sound."""
        return ClipResponse(self._clips, "clip", _event_id(request), "audio/flac")

    async def picture(self, request: Request) -> Response:
        """An event's picture."""
        return ClipResponse(self._clips, "picture", _event_id(request), "image/png")

    async def node(self, request: Request) -> Response:
        """The node's health, and who listens live."""
        self._check_running()
        return JSONResponse({**self._feed.node, "listener": self._feed.listener, "web": {"version": __version__}})

    async def settings(self, request: Request) -> Response:
        """The service's settings and what is wrong with them."""
        return JSONResponse(await self._ask("settings", CACHE_S, within_s=SETTINGS_WITHIN_S))

    def command(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """The route of one command."""

        async def run(request: Request) -> Response:
            machine, payload = self._named(request), await json_body(request)
            by = f"web:{visitor(request).role}"
            try:
                answer = await self._service.request("command", machine=machine, command=name, payload=payload, by=by)
            except Refused as refused:
                raise Problem(409, str(refused)) from None
            response: dict[str, Any] = answer["response"]
            if not response["accepted"]:
                problem = Problem(409, response["reason"] or "refused")
                if "field" in problem.body:
                    problem.status = 422
                raise problem
            return JSONResponse(response)

        return run

    async def stream(self, request: Request) -> Response:
        """Server-sent events."""
        machine = request.query_params.get("machine")
        if machine is not None and self._feed.running:
            self._check_known(machine)
        return self._streams.response(request, machine, visitor(request).still_allowed)

    async def live(self, request: Request) -> Response:
        """A machine's sound as it happens."""
        machine = self._named(request)
        return LiveResponse(self._live, machine=machine, who=visitor(request), info=self._feed.machines[machine])

    async def _machine(self, machine: str) -> dict[str, Any]:
        return {
            "id": machine,
            "name": self._feed.machines[machine].get("name") or machine,
            "state": self._feed.states.get(machine),
            "info": self._feed.machines[machine],
            "event": self._feed.open_events.get(machine),
            "strip": await self._strip(machine),
        }

    async def _strip(self, machine: str) -> list[dict[str, Any]]:
        start, to, step_s = strip_range(datetime.now(timezone.utc))
        arguments = {"from": rfc3339(start), "to": rfc3339(to), "step_s": step_s}
        try:
            points = (await self._ask("history", STRIP_CACHE_S, machine=machine, **arguments))["points"]
        except Problem:
            points = []
        return strip_of(points, start)

    async def _ask(self, do: str, keep_s: float, **arguments: Any) -> dict[str, Any]:
        """The service's answer, shared by all who ask the same within `keep_s`."""
        key, now = to_json({"do": do, **arguments}), monotonic()
        self._cached = {name: one for name, one in self._cached.items() if one[0] > now}
        if key not in self._cached:
            if len(self._cached) >= MAX_CACHED:
                del self._cached[next(iter(self._cached))]
            self._cached[key] = now + keep_s, asyncio.ensure_future(self._service.request(do, **arguments))
        try:
            answer: dict[str, Any] = await asyncio.shield(self._cached[key][1])
        except Refused as refused:
            self._cached.pop(key, None)
            raise Problem(422, str(refused)) from None
        except Exception:
            self._cached.pop(key, None)
            raise
        return answer

    def _named(self, request: Request) -> str:
        machine: str = request.path_params["machine"]
        self._check_running()
        self._check_known(machine)
        return machine

    def _check_known(self, machine: str) -> None:
        if machine not in self._feed.machines:
            raise Problem(404, f"machine must be one of {', '.join(sorted(self._feed.machines))}, got another")

    def _check_running(self) -> None:
        if not self._feed.running:
            raise Problem(503, self._feed.reason or "the service does not run", headers={"Retry-After": "2"})


def _event_id(request: Request) -> str:
    text: str = request.path_params["event"]
    if len(text) > 64 or not text.isascii() or not text.replace("-", "").isalnum():
        raise Problem(404, "no such event")
    return text
