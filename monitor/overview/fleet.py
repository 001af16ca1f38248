"""The present state of all nodes and machines, from their messages. Pure: the caller hands in the time."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from monitor.config.fleet import FleetConfig
from monitor.overview.model import Change, Changes, Machine, Node, Row
from monitor.overview.readings import (
    MAX_PAYLOAD,
    TOPIC,
    EventReading,
    HealthReading,
    InfoReading,
    StateReading,
    online,
    read,
)

MAX_EVENTS = 300  # recent ones, in memory
REPEATED = ("normal", "anomaly", "idle", "starting")  # states that a node repeats every 10 s
OF_NODE: dict[str, Callable[[bytes], Any]] = {
    "status": online,
    "info": partial(read, InfoReading),
    "health": partial(read, HealthReading),
}
OF_MACHINE: dict[str, Callable[[bytes], Any]] = {
    "availability": online,
    "state": partial(read, StateReading),
    "event": partial(read, EventReading),
}
OURS = ("no_broker", "not_heard")  # reasons that say nothing about the machine


class Fleet:
    """Nodes and machines by name; machines by NODE/MACHINE.

    A machine's `kind` is its severity during an anomaly, its state, or `offline` or `unknown` if the state cannot be relied on:
    a node that is offline, that has been silent, or of which only retained messages are known.
    """

    def __init__(self, config: FleetConfig) -> None:
        self.connected = False
        self.problem: str | None = "connecting to the broker"
        self.nodes: dict[str, Node] = {}
        self.machines: dict[str, Machine] = {}
        self.events: OrderedDict[str, Row] = OrderedDict()  # recent ones by id, the newest last
        self.event_counts: Counter[tuple[str, str, str]] = Counter()  # anomalies that began, by node, machine and severity
        self.n_messages = 0
        self.ignored: Counter[str] = Counter()  # messages, by reason
        self._config = config
        self._kinds: dict[str, tuple[str, str | None]] = {}
        self._recorded: dict[str, tuple[str, str | None]] = {}  # the last change of kind that went to the history
        self._changes = Changes()

    def set_connected(self, connected: bool, problem: str | None = None) -> None:
        """The connection to the broker. Without it, every machine is unknown."""
        self.connected, self.problem = connected, problem

    def take(self, topic: str, payload: bytes, *, retained: bool, now: float, truncated: bool = False) -> None:
        """Take in a message. `topic` is relative to the prefix."""
        self.n_messages += 1
        found = TOPIC.fullmatch(topic)
        if found is None:
            self.ignored["topic"] += 1
        elif truncated or len(payload) > MAX_PAYLOAD:
            self.ignored["size"] += 1
        elif found[2] is None:
            self._take_of_node(found[1], found[3], payload, retained=retained, now=now)
        else:
            self._take_of_machine(found[1], found[2], found[3], payload, retained=retained, now=now)

    def update(self, now: float) -> None:
        """Compute every machine's kind, which also depends on the time."""
        for key in self.machines:
            self._update_kind(key, now)

    def kind(self, key: str, now: float) -> tuple[str, str | None]:
        """A machine's kind and its reason."""
        machine = self.machines[key]
        node, state = machine.node, machine.state
        if not self.connected:
            return "unknown", "no_broker"
        if node.online is False:
            return "offline", None
        is_repeated = state is not None and state.state in REPEATED
        heard_at = machine.heard_at if is_repeated else node.heard_at
        limit_s = self._config.silent_after_s * (1 if is_repeated else 2)
        if heard_at is None or state is None:
            return "unknown", "not_heard"
        if abs(now - heard_at) > limit_s:  # either way: the clock may have been set back
            return "unknown", "silent"
        if machine.available is False and state.state in ("normal", "idle"):
            return "unknown", "unavailable"
        return (state.severity or "warning") if state.state == "anomaly" else state.state, state.reason

    def row(self, key: str) -> Row:
        """A machine as the page shows it."""
        machine = self.machines[key]
        kind, reason = self._kinds.get(key, ("unknown", "not_heard"))
        info = machine.node.info.machines.get(machine.name) if machine.node.info is not None else None
        row: Row = {
            "node": machine.node.name,
            "machine": machine.name,
            "name": (info and info.name) or machine.name,
            "groups": machine.groups,
            "kind": kind,
            "reason": reason,
            "bundle": info and info.bundle,
            "adapted": info and info.adapted,
            "heard": None if machine.heard_at is None else int(machine.heard_at),
        }
        if (state := machine.state) is not None:
            row |= {
                "ratio": None if state.ratio is None else round(state.ratio, 3),
                "drift": state.drift,
                "level": state.rms_dbfs,
                "since": state.since,
                "acknowledged": state.acknowledged,
                "snoozed_until": state.snoozed_until,
                "flooding": state.flooding,
            }
        event = machine.event
        return {**row, "event": event and {"id": event.id, "summary": event.summary, "test": event.test}}

    def node_row(self, name: str) -> Row:
        """A node as the page shows it."""
        node = self.nodes[name]
        return {
            "online": node.online,
            "heard": None if node.heard_at is None else int(node.heard_at),
            "versions": {} if node.info is None else node.info.versions,
            "health": None if node.health is None else node.health.model_dump(),
        }

    def take_changes(self) -> Changes:
        """What has changed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def _take_of_node(self, name: str, what: str, payload: bytes, *, retained: bool, now: float) -> None:
        if what == "status" and not payload:
            self._remove_node(name)
            return
        found = self._reading(OF_NODE.get(what), payload)
        if found is None:
            return
        if name not in self.nodes and len(self.nodes) >= self._config.max_machines:
            self.ignored["limit"] += 1
            return
        node = self.nodes.setdefault(name, Node(name))
        if not retained:
            node.heard_at = now
        if what == "status":
            node.online = found
        elif what == "info":
            node.info = found
        else:
            node.health = found
        self._changes.nodes.add(name)
        if what != "health":
            for key, machine in self.machines.items():
                if machine.node is node:
                    self._changes.rows.add(key)
                    self._update_kind(key, now)

    def _reading(self, reader: Callable[[bytes], Any] | None, payload: bytes) -> Any:
        """The message; None, and counted as ignored, if the topic has no reader or it is not such a message."""
        found = None if reader is None else reader(payload)
        if found is None:
            self.ignored["topic" if reader is None else "payload"] += 1
        return found

    def _take_of_machine(self, node_name: str, name: str, what: str, payload: bytes, *, retained: bool, now: float) -> None:
        key = f"{node_name}/{name}"
        if what in ("state", "availability") and not payload:
            self._remove(key)
            return
        found = self._reading(OF_MACHINE.get(what), payload)
        if found is None:
            return
        machine = self.machines.get(key) or self._add(node_name, name)
        if machine is None:
            self.ignored["limit"] += 1
            return
        if not retained:
            machine.node.heard_at = now
        if what == "availability":
            machine.available = found
        elif what == "event":
            self._take_event(machine, found)
        else:
            machine.state = found
            machine.heard_at = machine.heard_at if retained else now
            if found.state != "anomaly":
                machine.event = None
        self._changes.rows.add(key)
        self._update_kind(key, now)

    def _take_event(self, machine: Machine, event: EventReading) -> None:
        known = self.events.get(event.id)
        if known is not None and (
            known["seq"] >= event.seq or (known["node"], known["machine"]) != (machine.node.name, machine.name)
        ):
            return  # an outbox repeats what was not acknowledged
        if event.event_type == "start" and known is None and not event.test:
            self.event_counts[machine.node.name, machine.name, event.severity] += 1
        machine.event = None if event.event_type == "end" else event
        row = {**event.model_dump(), "node": machine.node.name, "machine": machine.name}
        self.events[event.id] = row
        self.events.move_to_end(event.id)
        while len(self.events) > MAX_EVENTS:
            self.events.popitem(last=False)
        self._changes.events[event.id] = row

    def _add(self, node_name: str, name: str) -> Machine | None:
        if len(self.machines) >= self._config.max_machines:
            return None
        key = f"{node_name}/{name}"
        groups = self._config.groups.items()
        found = tuple(
            group for group, patterns in groups if any(fnmatchcase(key if "/" in one else node_name, one) for one in patterns)
        )
        node = self.nodes.setdefault(node_name, Node(node_name))
        self._changes.nodes.add(node_name)
        self._changes.gone.discard(key)
        machine = self.machines[key] = Machine(node, name, found)
        return machine

    def _remove(self, key: str) -> None:
        """A node clears the retained state of a machine that is no longer configured."""
        machine = self.machines.pop(key, None)
        if machine is not None:
            self._kinds.pop(key, None)
            self._recorded.pop(key, None)
            self._changes.rows.discard(key)
            self._changes.gone.add(key)
            for severity in ("warning", "alarm"):
                self.event_counts.pop((machine.node.name, machine.name, severity), None)

    def _remove_node(self, name: str) -> None:
        """Somebody has cleared the retained messages of a node that was dismantled."""
        node = self.nodes.pop(name, None)
        for key in [key for key, machine in self.machines.items() if machine.node is node]:
            self._remove(key)
        self._changes.nodes.add(name)

    def _update_kind(self, key: str, now: float) -> None:
        kind = self.kind(key, now)
        if self._kinds.get(key) != kind:
            self._kinds[key] = kind
            self._changes.rows.add(key)
            if kind[1] in OURS or self._recorded.get(key) == kind:
                return
            self._recorded[key] = kind
            machine = self.machines[key]
            ratio = None if machine.state is None else machine.state.ratio
            self._changes.kinds.append(
                Change(at=now, node=machine.node.name, machine=machine.name, kind=kind[0], reason=kind[1], ratio=ratio)
            )
