"""The stop of a wave: the alarms of the machines that use a release, as their nodes report them."""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.bundle.manifest import one_line
from monitor.errors import StethosError, UsageError
from monitor.files import read_regular
from monitor.learning.report_text import count
from monitor.releases.index import Release

MAX_BYTES = 20_000_000
_LINE = re.compile(r"(?P<topic>\S+/[a-z0-9_-]{1,64}/bundle/current)(?P<body>(?:\s.*)?)")


class WaveStopped(StethosError):
    """The first wave alarms too often, went back by itself, or has not run long enough."""


class _Machine(BaseModel):
    """The entry of a machine in `bundle/current`; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    bundle: str | None
    release: str | None = None
    alarms: Annotated[int, Field(ge=0)] = 0
    hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    refused: str | None = None


class _Current(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    group: str | None = None
    """The group of the node. Older nodes do not report it."""

    machines: dict[str, _Machine]


def check_alarms(path: Path, release: Release, *, max_per_day: float, min_hours: float, group: str | None = None) -> str:
    """Describe the alarms of the machines that use a release. WaveStopped if they are too many, or the machines too few.

    With a group, messages of the nodes of other groups are ignored.
    """
    found = [
        machine
        for node, current in _read(path)
        if group is None or current.group in (None, group)
        for name, machine in current.machines.items()
        if release.in_wave(node, name) and any(assigned.includes(node, name) for assigned in release.bundles)
    ]
    using = [machine for machine in found if machine.release == release.name]
    refusing = [machine.refused for machine in found if machine.refused and machine.refused.startswith(f"{release.name}: ")]
    if refusing:
        raise WaveStopped(f"{release.name}: {count(len(refusing), 'machine')} refused it or went back; the first: {refusing[0]}")
    hours, alarms = sum(machine.hours for machine in using), sum(machine.alarms for machine in using)
    machines = count(len(using), "machine")
    if hours < min_hours:
        raise WaveStopped(
            f"{release.name}: {machines} used it for {hours:.1f} h together, at least {min_hours:g} h are needed (--min-hours)"
        )
    per_day = 24.0 * alarms / max(hours, 0.01)  # the resolution of the messages
    words = f"{release.name}: {count(alarms, 'alarm')} of {machines} in {hours:.1f} h, {per_day:.2f} a machine and day"
    if per_day > max_per_day:
        raise WaveStopped(f"{words}; at most {max_per_day:g} are allowed (--max-alarms)")
    return words


def _read(path: Path) -> list[tuple[str, _Current]]:
    """The nodes and their last messages. Each line begins with its topic, as `mosquitto_sub -v` prints it."""
    try:
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise StethosError(f"{path}: cannot be read: {error.strerror}") from error
    last: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(
                f"--alarms: line {number} of {path}: must begin with a topic …/NODE/bundle/current (mosquitto_sub -v), "
                f"got {line[:60]!r}"
            )
        last[match["topic"]] = number, match["body"].strip()
    found = []
    for topic, (number, body) in last.items():
        if body in ("", "(null)"):  # the topic was cleared
            continue
        try:
            found.append((topic.split("/")[-3], _Current.model_validate(json.loads(body))))
        except (ValueError, RecursionError) as error:
            reason = one_line(error) if isinstance(error, ValidationError) else "is not JSON"
            raise UsageError(f"--alarms: line {number} of {path}: {reason}") from error
    return found
