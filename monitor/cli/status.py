"""`monitor status`: the state of every machine, since when, and what to do next."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.cli.advice import next_step
from monitor.cli.arguments import recent_time
from monitor.cli.systemd import SERVICE, last_error
from monitor.config import Config, load_config
from monitor.daemon.control.socket import NAME, open_stream, stream_lines
from monitor.errors import StethosError, printable
from monitor.events.event import from_rfc3339
from monitor.shipped import is_example

ALL_WITHIN_S, QUIET_S = 3.0, 0.2
EXIT_NOT_RUNNING, EXIT_ANOMALY, EXIT_UNKNOWN = 1, 3, 4
EPILOG = """\
One line for each machine. Exit status: 0 if all machines are normal, idle, starting, learning or disabled; 3 if one has an
anomaly; else 4 if the state of one is unknown; 1 if the service does not run or cannot be asked.

  sudo monitor status
  sudo monitor status --json | jq '.machines.fan.state'
"""
_COLOURS = {"alarm": "31;1", "warning": "33", "unknown": "34", "learning": "36", "normal": "32"}


@dataclass
class Snapshot:
    """The first lines of `watch` (docs/control.md)."""

    node: dict[str, Any] = field(default_factory=dict)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    learning: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the state of every machine is known."""
        return bool(self.node) and set(self.node["info"]["machines"]) <= set(self.states)

    def take(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        kind, machine, data = line["kind"], line.get("machine", ""), line["data"]
        if kind == "node":
            self.node = data
            return
        kept = {"machine": self.machines, "state": self.states, "event": self.events, "learning": self.learning}.get(kind)
        if kept is not None and data is not None and not (kind == "event" and data["event_type"] == "end"):
            kept[machine] = data
        elif kept is not None:
            kept.pop(machine, None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the states."""
    config = load_config(arguments.config, os.environ)
    snapshot = read_snapshot(config.runtime_dir / NAME)
    if snapshot is None:
        error = last_error(SERVICE)
        if arguments.json:
            print(json.dumps({"running": False, "last_error": error}))
        if not is_set_up(arguments.config, config):
            raise StethosError("the service does not run, and nothing is set up; run: sudo monitor setup")
        raise StethosError(
            f"the service does not run; start it: sudo systemctl start {SERVICE}"
            + (f"; its last error: {error}" if error else "")
        )
    machines = {name: _about(snapshot, name) for name in sorted(snapshot.states, key=lambda name: _rank(snapshot.states[name]))}
    if arguments.json:
        print(json.dumps({"running": True, "node": snapshot.node["node"], "mqtt": snapshot.node["mqtt"], "machines": machines}))
    else:
        print(*_lines(snapshot, machines), sep="\n")
    states = {machine["state"] for machine in machines.values()}
    return EXIT_ANOMALY if "anomaly" in states else EXIT_UNKNOWN if "unknown" in states else 0


def is_set_up(path: Path | None, config: Config) -> bool:
    """Whether a person has chosen a machine: the shipped configuration, which a package installs, has an example only."""
    return bool(config.machines) and not (path is not None and is_example(path))


def read_snapshot(control: Path) -> Snapshot | None:
    """The present states of a running service; None if it does not run."""
    opened = open_stream(control, {"do": "watch"})
    if opened is None:
        return None
    _, connection, received = opened
    snapshot, until = Snapshot(), time.monotonic() + ALL_WITHIN_S
    with closing(connection), suppress(TimeoutError):
        connection.settimeout(ALL_WITHIN_S)
        for line in stream_lines(connection, received):
            snapshot.take(line)
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            connection.settimeout(min(QUIET_S, left_s) if snapshot.is_complete else left_s)
    return snapshot


def _about(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One machine, for people and for JSON."""
    state, event, learning = snapshot.states[name], snapshot.events.get(name), snapshot.learning.get(name)
    keys = ("state", "severity", "reason", "since", "ratio", "acknowledged", "snoozed_until", "flooding")
    return {
        "name": snapshot.machines.get(name, {}).get("name"),
        **{key: state[key] for key in keys},
        "summary": None if event is None else event["summary"],
        "learning": learning,
        "next": next_step(state, learning, machine=name),
    }


def _rank(state: Mapping[str, Any]) -> int:
    """The worst first."""
    order = ("alarm", "warning", "unknown", "learning", "starting", "normal", "idle", "disabled")
    return order.index(_kind(state))


def _kind(state: Mapping[str, Any]) -> str:
    return str(state["severity"] if state["state"] == "anomaly" else state["state"])


def _lines(snapshot: Snapshot, machines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    width = max(map(len, machines), default=0)
    for name, machine in machines.items():
        kind = _kind(machine)
        word = kind.upper() if machine["state"] == "anomaly" else kind
        since = recent_time(from_rfc3339(machine["since"]))
        about = "; ".join([*_details(machine), *([machine["next"]] if machine["next"] else [])])
        yield f"{name:<{width}}  {_coloured(f'{word:<8}', kind)}  since {since}{'  ' if about else ''}{printable(about)}"
    yield _broker(snapshot.node["mqtt"])


def _details(machine: Mapping[str, Any]) -> Iterator[str]:
    learning = machine["learning"]
    if machine["summary"]:
        yield str(machine["summary"])
    if machine["state"] in ("normal", "anomaly") and machine["ratio"] is not None:
        yield f"{machine['ratio']:.2f} x the threshold"
    if machine["reason"]:
        yield str(machine["reason"]).replace("_", " ")
    if learning is not None:
        doing = "learning" if learning["command"] == "learn" else "calibration"
        is_running = learning["phase"] != "not_started"
        yield f"{doing} is under way: {learning['missing']}" if is_running else str(learning["missing"])
    if machine["snoozed_until"] is not None:
        yield f"snoozed until {recent_time(from_rfc3339(machine['snoozed_until']))}"
    if machine["flooding"]:
        yield "more than 10 alarms in 10 minutes"


def _broker(mqtt: Mapping[str, Any] | None) -> str:
    if mqtt is None:
        return "no broker (mqtt: null)"
    if mqtt["connected"]:
        return "broker connected"
    return f"broker away: {printable(str(mqtt['last_error']))}; {mqtt['queued']} events kept; see monitor mqtt-test"


def _coloured(text: str, kind: str) -> str:
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if is_plain or kind not in _COLOURS else f"\033[{_COLOURS[kind]}m{text}\033[0m"
