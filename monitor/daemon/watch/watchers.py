"""The stream `watch`: node, machines, states, frames, events and responses as JSON lines, to any number of clients."""

import asyncio
import base64
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from monitor.daemon.control.socket import ControlError, Reply
from monitor.daemon.watch.backlog import Backlog, line_of
from monitor.mqtt.messages import ResponseMessage, StateMessage

log = logging.getLogger(__name__)
STATE_EVERY_S = 1.9  # after which a state without a change is sent again
MAX_RECENT_BYTES = 256_000  # of the frames that a new client receives; 60 s and more of 64 bands at 16 kHz
BYE_S = 0.5  # time at the stop to send the rest
Event = dict[str, Any]  # an event message with `started_at`, `acknowledged_at`, `has_clip`, `has_picture`


class Watchers:
    """Knows the latest line of every kind and passes new ones to all clients. All calls must come from the event loop.

    No call blocks. A client that reads too slowly loses frames, and is disconnected when its backlog is full.
    """

    def __init__(self, node: str, about_node: Callable[[], dict[str, Any]]) -> None:
        """`about_node` returns the data of the line `node`."""
        self._node = node
        self._about_node = about_node
        self._clients: set[Backlog] = set()
        self._machines: dict[str, bytes] = {}
        self._states: dict[str, tuple[bytes, float]] = {}  # with the time at which they were sent, monotonic
        self._recent: dict[str, deque[Mapping[str, Any]]] = {}  # the latest unbroken frames of each machine
        self._open: dict[str, Event] = {}  # events by id
        self._learning: dict[str, bytes] = {}

    def watch(self, request: Mapping[str, Any]) -> Reply:
        """The reply to `watch`. Its stream begins with the current state of everything."""
        wanted = request.get("frames", [])
        is_list = isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)
        if wanted != "all" and not is_list:
            raise ControlError('frames must be "all" or a list of machines')
        return Reply({"node": self._node}, self._stream(None if wanted == "all" else frozenset(wanted)))

    @property
    def n_clients(self) -> int:
        """How many clients are watching."""
        return len(self._clients)

    def publish_node(self) -> None:
        """Send the line about the node."""
        if self._clients:
            self._send(line_of("node", self._about_node()))

    def apply_config(self, machines: Mapping[str, Mapping[str, Any]]) -> None:
        """Send what has changed in the machines of a configuration. A machine that is gone has null as its data."""
        lines = {name: line_of("machine", data, machine=name) for name, data in machines.items()}
        gone = [name for name in self._machines if name not in lines]
        for name in gone:
            self._send(line_of("machine", None, machine=name))
            self._states.pop(name, None)
            self._recent.pop(name, None)
            self._learning.pop(name, None)
        self._open = {key: event for key, event in self._open.items() if event["machine"] not in gone}
        for name, line in lines.items():
            if self._machines.get(name) != line:
                self._send(line)
                self._recent.pop(name, None)
        self._machines = lines

    def publish_state(self, machine: str, message: StateMessage) -> None:
        """Send a machine's state."""
        line = line_of("state", message.model_dump(by_alias=True), machine=machine)
        self._states[machine] = (line, time.monotonic())
        self._send(line)

    def publish_frames(self, machine: str, data: Mapping[str, Any], *, follows: bool) -> None:
        """Send frames to the clients that want them. `follows`: without a gap after the last ones."""
        recent = self._recent.setdefault(machine, deque())
        if not follows:
            recent.clear()
        recent.append(data)
        while sum(len(one["levels"]) for one in recent) > MAX_RECENT_BYTES:
            recent.popleft()
        if not any(client.wants_frames(machine) for client in self._clients):
            return
        line = line_of("frame", data, machine=machine)
        for client in self._clients:
            if client.wants_frames(machine):
                client.put_frame(line)

    def publish_event(self, event: Event) -> None:
        """Send an event, or what has changed about it."""
        if event["event_type"] == "end":
            self._open.pop(event["id"], None)
        else:
            self._open[event["id"]] = event
        self._send(line_of("event", event, machine=event["machine"]))

    def publish_response(self, machine: str, message: ResponseMessage) -> None:
        """Send the response to a command."""
        self._send(line_of("response", message.model_dump(by_alias=True), machine=machine))

    def publish_learning(self, machine: str, data: Mapping[str, Any] | None) -> None:
        """Send the progress of learning a machine; None when it is over."""
        line = line_of("learning", data, machine=machine)
        self._learning.pop(machine, None)
        if data is not None:
            self._learning[machine] = line
        self._send(line)

    def poll(self, now: float) -> None:
        """Send states again that have not been sent for a while, such as that of a disabled machine. Call this once a second."""
        for machine, (line, sent_at) in self._states.items():
            if now - sent_at >= STATE_EVERY_S:
                self._states[machine] = (line, now)
                self._send(line)

    async def stop(self) -> None:
        """Send `bye` and give the clients some time to read it."""
        self._send(line_of("bye", None))
        clients = list(self._clients)
        for client in clients:
            client.close()
        until = time.monotonic() + BYE_S
        while any(not client.is_empty for client in clients) and time.monotonic() < until:
            await asyncio.sleep(0.01)

    def _send(self, line: bytes) -> None:
        for client in self._clients:
            client.put(line)

    def _snapshot(self) -> bytes:
        lines = [line_of("node", self._about_node())]
        for machine, line in self._machines.items():
            lines += [line, *([self._states[machine][0]] if machine in self._states else [])]
        lines += [line_of("event", event, machine=event["machine"]) for event in self._open.values()]
        return b"".join([*lines, *self._learning.values()])

    def _recent_frames(self, client: Backlog) -> bytes:
        """The latest frames of the machines that a client wants, one line each."""
        return b"".join(
            line_of("frame", joined(recent), machine=machine)
            for machine, recent in self._recent.items()
            if recent and client.wants_frames(machine)
        )

    async def _stream(self, frames: frozenset[str] | None) -> AsyncGenerator[bytes, None]:
        client = Backlog(frames)
        self._clients.add(client)
        try:
            yield self._snapshot() + self._recent_frames(client)
            while (lines := await client.take()) is not None:
                yield lines
            if client.is_over:
                log.warning("control socket: disconnected a client that watched and did not read")
        finally:
            self._clients.discard(client)


def joined(frames: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several lines of frames, one after the other, as one."""
    levels = b"".join(base64.b64decode(one["levels"]) for one in frames)
    return {**frames[-1], "n": sum(one["n"] for one in frames), "levels": base64.b64encode(levels).decode()}
