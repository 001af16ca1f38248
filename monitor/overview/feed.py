"""The overview's state for browsers: everything at first, then what has changed, at most four times a second."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from monitor.json_lines import to_json
from monitor.mqtt.client import Received
from monitor.overview.fleet import Fleet
from monitor.overview.model import Changes, Row

log = logging.getLogger(__name__)
EVERY_S = 0.25
HEARTBEAT_S = 3.0  # a browser that receives nothing for 5 s takes the connection for broken
MAX_BACKLOG = 60  # updates of one browser, 15 s; then it is disconnected, and starts anew
SLICE = 250  # rows computed before other tasks run


class Viewer:
    """One open stream."""

    def __init__(self) -> None:
        self.lagged = False
        self.waiting: asyncio.Queue[str] = asyncio.Queue(MAX_BACKLOG)

    def put(self, text: str) -> None:
        """Queue an update."""
        try:
            self.waiting.put_nowait(text)
        except asyncio.QueueFull:
            self.lagged = True


class FleetFeed:
    """Passes messages to the fleet, and its changes to browsers and to `keep`, which must not block."""

    def __init__(self, fleet: Fleet, *, prefix: str, keep: Callable[[Changes], None], extra: Callable[[], Row]) -> None:
        """`extra` are further facts for the browsers, such as errors of the history."""
        self.fleet = fleet
        self._start = len(prefix) + 1
        self._keep = keep
        self._extra = extra
        self._rows: dict[str, Row] = {}
        self._viewers: set[Viewer] = set()
        self._sent_at = 0.0
        self._extra_sent: Row = {}

    def take(self, message: Received) -> None:
        """A message from the broker."""
        topic, payload = message.topic[self._start :], message.payload
        self.fleet.take(topic, payload, retained=message.retained, now=time.time(), truncated=message.n_discarded > 0)

    def set_connected(self, connected: bool, problem: str | None) -> None:
        """The connection to the broker."""
        self.fleet.set_connected(connected, problem)
        self.fleet.update(time.time())

    async def run(self) -> None:
        """Send changes until cancelled."""
        n_turns = 0
        while True:
            await asyncio.sleep(EVERY_S)
            n_turns += 1
            if n_turns % 4 == 0:
                self.fleet.update(time.time())
            await self._send(self.fleet.take_changes())

    def whole(self) -> Row:
        """Everything, as of the last update."""
        fleet = self.fleet
        nodes = {name: fleet.node_row(name) for name in fleet.nodes}
        return {
            **self._head(),
            **self._extra(),
            "whole": True,
            "rows": self._rows,
            "nodes": nodes,
            "events": [*fleet.events.values()],
        }

    @contextmanager
    def viewer(self, _: str | None, __: str | None) -> Iterator[tuple[Viewer, Iterator[str]]]:
        """A stream and its first text."""
        viewer = Viewer()
        self._viewers.add(viewer)
        try:
            yield viewer, iter([_event(self.whole())])
        finally:
            self._viewers.discard(viewer)

    def with_id(self, entry: str) -> str:
        """An update as it is sent; it has no id, because a stream starts anew with everything."""
        return entry

    def _head(self) -> Row:
        return {"now": time.time(), "connected": self.fleet.connected, "problem": self.fleet.problem}

    async def _send(self, changes: Changes) -> None:
        self._keep(changes)
        update: Row = {}
        rows: dict[str, Row] = {}
        for number, key in enumerate(changes.rows):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if key in self.fleet.machines:
                new, old = self.fleet.row(key), self._rows.get(key, {})
                self._rows[key] = new
                if differing := {name: value for name, value in new.items() if name not in old or old[name] != value}:
                    rows[key] = differing
        for key in changes.gone:
            self._rows.pop(key, None)
        if rows:
            update["rows"] = rows
        if changes.gone:
            update["gone"] = sorted(changes.gone)
        if changes.nodes:
            nodes = self.fleet.nodes
            update["nodes"] = {name: self.fleet.node_row(name) if name in nodes else None for name in changes.nodes}
        if changes.events:
            update["events"] = [*changes.events.values()]
        extra = self._extra()
        if not update and extra == self._extra_sent and time.monotonic() - self._sent_at < HEARTBEAT_S:
            return
        self._sent_at, self._extra_sent = time.monotonic(), extra
        if self._viewers:
            text = _event({**self._head(), **extra, **update})
            for viewer in self._viewers:
                viewer.put(text)


def _event(content: dict[str, Any]) -> str:
    return f"event: fleet\ndata: {to_json(content)}\n\n"
