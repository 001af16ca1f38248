"""The scores of the current hour, in memory."""

import threading
from array import array
from dataclasses import dataclass, field

import numpy as np

from monitor.history.points import HOUR_S, merged
from monitor.history.steps import DTYPE, MAX_STEPS, STATES, STEP_S, Steps

MAX_TICK_S = 30.0  # a longer time between two ticks is not attributed to a state
MAX_TICKS = 40_000  # in one block


@dataclass
class _Current:
    """The ticks of a machine since its last block."""

    steps: Steps = field(default_factory=lambda: np.zeros(MAX_STEPS, DTYPE))
    n_steps: int = 0  # complete ones
    start: int = 0  # of the step in progress
    seconds: list[float] = field(default_factory=lambda: [0.0] * len(STATES))
    ratios: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    all_ratios: "array[float]" = field(default_factory=lambda: array("f"))


@dataclass(frozen=True)
class Block:
    """The scores of one machine in at most an hour: the steps, and one row that sums them up."""

    machine: str
    steps: Steps
    total: Steps  # one row; its `t` is that of the first step, and its quantiles are those of all scores


class ScoreRecorder:
    """Collects ticks. `push` is called by the listening loop, the rest by any thread; the lock is only held for a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[str, _Current] = {}
        self._last: dict[str, float] = {}  # time of a machine's last tick

    def push(self, machine: str, at: float, *, ratio: float | None, rms_dbfs: float | None, state: str) -> None:
        """Add a tick that ended at `at`, s since 1970."""
        start = int(at // STEP_S) * STEP_S
        waited = at - self._last.get(machine, at)
        self._last[machine] = at
        with self._lock:
            current = self._current.setdefault(machine, _Current())
            if start != current.start:
                _finish(current)
                current.start = start
            if state in STATES:
                current.seconds[STATES.index(state)] += waited if 0.0 < waited < MAX_TICK_S else 1e-3
            if ratio is not None and len(current.all_ratios) < MAX_TICKS:
                current.ratios.append(ratio)
                current.all_ratios.append(ratio)
            if rms_dbfs is not None and len(current.levels) < MAX_TICKS:
                current.levels.append(rms_dbfs)

    def snapshot(self, machine: str | None = None) -> list[Block]:
        """A copy of the blocks so far, of one machine or of all."""
        with self._lock:
            names = [name for name in self._current if machine in (None, name)]
            return [block for name in names for block in _blocks(name, self._current[name])]

    def take(self) -> list[Block]:
        """The blocks so far; the next tick begins new ones."""
        with self._lock:
            current, self._current = self._current, {}
        return [block for name, one in current.items() for block in _blocks(name, one)]

    def shift(self, offset_s: float, *, now: float) -> None:
        """Shift all times, because the clock was `offset_s` behind. Those of the last seconds before `now` are right already."""
        offset = round(offset_s / STEP_S) * STEP_S
        with self._lock:
            for current in self._current.values():
                times = current.steps["t"][: current.n_steps]
                times += np.where((now - 2 * STEP_S < times) & (times <= now), 0, offset)
                if not now - 2 * STEP_S < current.start <= now:
                    current.start += offset
        self._last.clear()


def _finish(current: _Current) -> None:
    """Complete the step in progress, if there is room for it."""
    if any(current.seconds) and current.n_steps < MAX_STEPS - 1:
        current.steps[current.n_steps] = _row(current.start, current.ratios, current.levels, current.seconds)
        current.n_steps += 1
    current.ratios, current.levels = [], []
    current.seconds = [0.0] * len(STATES)


def _row(start: int, ratios: list[float], levels: list[float], seconds: list[float]) -> Steps:
    row = np.zeros((), DTYPE)
    row["t"], row["n"] = start, len(ratios)
    values = np.asarray(ratios, np.float32)
    nan = np.full(3, np.nan, np.float32)
    row["ratio_mean"], row["ratio_min"], row["ratio_max"] = (values.mean(), values.min(), values.max()) if len(values) else nan
    row["ratio_p50"], row["ratio_p95"] = np.quantile(values, (0.5, 0.95)) if len(values) else nan[:2]
    levels_db = np.asarray(levels, np.float32)
    row["rms_mean"], row["rms_min"], row["rms_max"] = (
        (levels_db.mean(), levels_db.min(), levels_db.max()) if len(levels_db) else nan
    )
    row["states"] = np.array(seconds) / (sum(seconds) or 1.0)
    return row


def _blocks(machine: str, current: _Current) -> list[Block]:
    """The steps in the order of their times; one block, unless the clock was set."""
    steps = current.steps[: current.n_steps]
    if any(current.seconds):
        last = _row(current.start, current.ratios, current.levels, current.seconds)
        steps = np.append(steps, last)
    if not len(steps):
        return []
    steps = steps[np.argsort(steps["t"], kind="stable")]
    parts = np.split(steps, np.flatnonzero(np.diff(steps["t"]) > HOUR_S) + 1)
    if len(parts) == 1:
        return [Block(machine, steps, _total(steps, current.all_ratios))]
    return [Block(machine, part, _total(part, array("f"))) for part in parts]


def _total(steps: Steps, all_ratios: "array[float]") -> Steps:
    """One row over all steps."""
    total = merged(steps, np.array([0]))
    if len(all_ratios):
        total["ratio_p50"], total["ratio_p95"] = np.quantile(np.asarray(all_ratios, np.float32), (0.5, 0.95))
    return total
