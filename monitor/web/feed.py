"""The service's states, events and frames, received over one connection and shared by all viewers."""

import asyncio
import itertools
import json
import logging
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from monitor.json_lines import to_json
from monitor.web.service import AWAY, SILENT, Away, Refused, Service
from monitor.web.tasks import end

log = logging.getLogger(__name__)
KEPT_BYTES = 2_000_000  # of states and events, for viewers that come back
MAX_BACKLOG = 300  # of one viewer; then it is disconnected, and resumes
MAX_FRAMES_WAITING = 8  # then frames are dropped for this viewer
MAX_RECENT = 400_000  # characters of a machine's latest frames, for viewers that come
SETTLE_S = 0.2  # viewers who come and go meanwhile are one new connection for frames
RETRY_S = (0.5, 10.0)  # first and longest pause before reconnecting
STATES_EVERY_S = 10.0  # no line for this long: the service hangs
NODE_EVERY_S = 90.0  # the same for a node without machines


class Entry(NamedTuple):
    """One server-sent event, still without its id."""

    number: int
    kind: str
    machine: str | None
    text: str


class Viewer:
    """One open stream. Its backlog is bounded: first frames are dropped, then the stream is ended (`lagged`)."""

    def __init__(self, machine: str | None) -> None:
        self.machine = machine
        self.lagged = False
        self.waiting: asyncio.Queue[Entry] = asyncio.Queue(MAX_BACKLOG)

    def wants(self, entry: Entry) -> bool:
        """Whether the entry concerns this viewer: everything but the frames of other machines."""
        return entry.kind != "frame" or entry.machine == self.machine

    def put(self, entry: Entry) -> None:
        """Queue an entry."""
        if not self.wants(entry) or (entry.kind == "frame" and self.waiting.qsize() >= MAX_FRAMES_WAITING):
            return
        try:
            self.waiting.put_nowait(entry)
        except asyncio.QueueFull:
            self.lagged = True


class Feed:
    """The newest of everything, and the last entries for viewers that resume.

    Nodes, machines, states, open events and learning are as the service sent them (docs/control.md). `running` is whether it is
    connected, `reason` why not.
    """

    def __init__(self, service: Service) -> None:
        self.running = False
        self.reason: str | None = AWAY
        self.node: dict[str, Any] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.open_events: dict[str, dict[str, Any]] = {}
        self.learning: dict[str, dict[str, Any]] = {}
        self.listener: dict[str, Any] | None = None
        self.event_counts: Counter[tuple[str, str]] = Counter()  # anomalies that began, by machine and severity
        self._service = service
        self._counted: dict[str, str] = {}  # the last event counted, by machine
        self._epoch = secrets.token_hex(4)  # ids of another process are not ours
        self._kept: deque[Entry] = deque()
        self._kept_bytes = 0
        self._number = 0
        self._viewers: set[Viewer] = set()
        self._watched: Counter[str] = Counter()  # machines whose frames are wanted
        self._recent: dict[str, deque[str]] = {}  # their latest frames
        self._watched_changed = asyncio.Event()

    async def run(self) -> None:
        """Receive until cancelled, reconnecting without limit."""
        await asyncio.gather(self._receive_all(), self._receive_frames())

    @contextmanager
    def viewer(self, machine: str | None, last_id: str | None) -> Iterator[tuple[Viewer, Iterator[str]]]:
        """A viewer, and the texts to send it first: what it missed since `last_id`, or how things are.

        They are made one by one, because all that are kept, for every viewer at once, would not fit into memory.
        """
        viewer = Viewer(machine)
        missed = self._since(last_id)
        entries = self._snapshot() if missed is None else missed
        first = self._render("service", to_json({**self._service_state(), "resumed": missed is not None}))
        texts = itertools.chain([first], (self.with_id(one) for one in entries if viewer.wants(one)), [f"id: {self._id()}\n\n"])
        texts = itertools.chain(texts, tuple(self._recent.get(machine or "", ())))
        self._viewers.add(viewer)
        if machine is not None:
            self._watch(machine, 1)
        try:
            yield viewer, texts
        finally:
            self._viewers.discard(viewer)
            if machine is not None:
                self._watch(machine, -1)

    def with_id(self, entry: Entry) -> str:
        """An entry as it is sent. Frames have no id: they are not repeated."""
        return entry.text if entry.kind == "frame" else f"id: {self._epoch}-{entry.number}\n{entry.text}"

    def set_listener(self, listener: dict[str, Any] | None) -> None:
        """Show everybody who listens live, or that nobody does."""
        self.listener = listener
        self._add("listener", None, to_json({"listener": listener}))

    def _watch(self, machine: str, change: int) -> None:
        before = set(+self._watched)
        self._watched[machine] += change
        self._watched = +self._watched
        if set(self._watched) != before:
            self._watched_changed.set()
            self._recent = {one: frames for one, frames in self._recent.items() if one in self._watched}

    def _id(self) -> str:
        return f"{self._epoch}-{self._number}"

    def _since(self, last_id: str | None) -> list[Entry] | None:
        """The entries after an id; None if some of them are gone, or the id is not ours."""
        epoch, _, number = (last_id or "").partition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdecimal() or len(number) > 15:
            return None
        first = self._kept[0].number if self._kept else self._number + 1
        if not first - 1 <= int(number) <= self._number:
            return None
        return [entry for entry in self._kept if entry.number > int(number)]

    def _snapshot(self) -> list[Entry]:
        if not self.running:
            return []
        lines: list[tuple[str, str | None, Any]] = [("node", None, self.node)]
        about = {"machine": self.machines, "state": self.states, "event": self.open_events, "learning": self.learning}
        for kind, newest in about.items():
            lines += [(kind, machine, data) for machine, data in newest.items()]
        entries = [
            Entry(self._number, kind, machine, self._render(kind, to_json({"kind": kind, "machine": machine, "data": data})))
            for kind, machine, data in lines
        ]
        listener = self._render("listener", to_json({"listener": self.listener}))
        return [*entries, Entry(self._number, "listener", None, listener)]

    def _service_state(self) -> dict[str, Any]:
        return {"running": self.running, "reason": self.reason}

    @staticmethod
    def _render(kind: str, data: str) -> str:
        return f"event: {kind}\ndata: {data}\n\n"

    def _add(self, kind: str, machine: str | None, data: str) -> None:
        if kind != "frame":
            self._number += 1
        entry = Entry(self._number, kind, machine, self._render(kind, data))
        if kind != "frame":
            self._kept.append(entry)
            self._kept_bytes += len(entry.text)
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popleft().text)
        for viewer in tuple(self._viewers):
            viewer.put(entry)

    def _set_running(self, running: bool, reason: str | None = None) -> None:
        if (self.running, self.reason) != (running, reason):
            self.running, self.reason = running, reason
            log.log(logging.INFO if running else logging.WARNING, "%s", reason or "connected to the service")
            self._add("service", None, to_json({**self._service_state(), "resumed": False}))

    async def _receive_all(self) -> None:
        pause_s = RETRY_S[0]
        while True:
            try:
                async with self._service.open("watch", frames=[]) as (_, reader):
                    pause_s = RETRY_S[0]
                    for newest in (self.machines, self.states, self.open_events):
                        newest.clear()
                    for machine in list(self.learning):  # if it goes on, the service repeats it
                        self._take(to_json({"kind": "learning", "machine": machine, "data": None}))
                    while (line := await self._line(reader)) is not None:
                        self._take(line)
                reason = AWAY
            except (Away, Refused) as error:
                reason = str(error)
            except (KeyError, TypeError, ValueError):
                log.exception("unexpected line from the service")
                reason = "the versions of the service and the page differ: install the same version of both"
            self._set_running(False, reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    async def _receive_frames(self) -> None:
        """Receive the frames of the machines that somebody looks at, over a connection that exists only meanwhile."""
        while True:
            await asyncio.sleep(SETTLE_S)
            self._watched_changed.clear()
            if not self._watched:
                await self._watched_changed.wait()
                continue
            receiving = asyncio.ensure_future(self._frames_of(sorted(self._watched)))
            changing = asyncio.ensure_future(self._watched_changed.wait())
            try:
                await asyncio.wait((receiving, changing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(receiving, changing)

    async def _frames_of(self, machines: list[str]) -> None:
        """Until the connection ends; then wait a little, so that the caller may try again."""
        try:
            async with self._service.open("watch", frames=machines) as (_, reader):
                seen = set()
                while (line := await self._line(reader)) is not None:
                    if self.running and (parsed := json.loads(line)).get("kind") == "frame":
                        machine = parsed["machine"]
                        self._add_frames(machine, line, is_first=machine not in seen)
                        seen.add(machine)
        except (Away, Refused, KeyError, TypeError, ValueError):
            pass  # the other connection reports it
        await asyncio.sleep(RETRY_S[0])

    def _add_frames(self, machine: str, line: str, *, is_first: bool) -> None:
        """Pass frames on. The first of a connection are those of the last minute, which viewers may have already."""
        recent = self._recent.get(machine)
        if is_first or recent is None:
            self._recent[machine] = deque([self._render("frame", line)])
        else:
            recent.append(self._render("frame", line))
            while sum(map(len, recent)) > MAX_RECENT:
                recent.popleft()
        if recent is None or not is_first:
            self._add("frame", machine, line)

    async def _line(self, reader: asyncio.StreamReader) -> str | None:
        """The next line; None at the end."""
        try:
            line = await asyncio.wait_for(reader.readline(), STATES_EVERY_S if self.states else NODE_EVERY_S)
        except asyncio.TimeoutError:
            raise Away(SILENT) from None
        except (OSError, ValueError):
            return None
        return line.decode().rstrip("\n") or None

    def _take(self, line: str) -> None:
        parsed = json.loads(line)
        kind, machine, data = parsed["kind"], parsed.get("machine"), parsed.get("data")
        if kind in ("bye", "lost"):
            return
        if kind == "node":
            self.node = data
            self._set_running(True)
        elif kind == "machine" and data is None:
            self._forget_all_but(set(self.machines) - {machine})
        elif kind == "machine":
            self.machines[machine] = data
        elif kind == "state":
            self.states[machine] = data
        elif kind == "learning" and data is None:
            self.learning.pop(machine, None)
        elif kind == "learning":
            self.learning[machine] = data
        elif kind == "event":
            if data["event_type"] == "end":
                self.open_events.pop(machine, None)
            else:
                self.open_events[machine] = data
                self._count(machine, data)
        self._add(kind, machine, line)

    def _count(self, machine: str, event: dict[str, Any]) -> None:
        """Count an anomaly that begins, once."""
        if event["event_type"] == "start" and not event.get("test") and event["id"] != self._counted.get(machine):
            self._counted[machine] = event["id"]
            self.event_counts[machine, event["severity"]] += 1

    def _forget_all_but(self, machines: Any) -> None:
        """Drop the machines that a reload has removed."""
        for newest in (self.machines, self.states, self.open_events, self.learning):
            for gone in set(newest) - set(machines):
                del newest[gone]
