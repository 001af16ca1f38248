"""What is known about nodes and machines."""

from dataclasses import dataclass, field
from typing import Any

from monitor.overview.readings import EventReading, HealthReading, InfoReading, StateReading

Row = dict[str, Any]


@dataclass(slots=True)
class Node:
    """A node. `heard_at` is when the last message arrived that was not retained, Unix time."""

    name: str
    online: bool | None = None
    heard_at: float | None = None
    info: InfoReading | None = None
    health: HealthReading | None = None


@dataclass(slots=True)
class Machine:
    """A machine. `heard_at` is as of `Node`, for its states."""

    node: Node
    name: str
    groups: tuple[str, ...]
    available: bool | None = None
    heard_at: float | None = None
    state: StateReading | None = None
    event: EventReading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A machine's kind has changed."""

    at: float
    node: str
    machine: str
    kind: str
    reason: str | None
    ratio: float | None


@dataclass(slots=True)
class Changes:
    """What has changed since the last call of `Fleet.take_changes`."""

    rows: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    events: dict[str, Row] = field(default_factory=dict)
    kinds: list[Change] = field(default_factory=list)
