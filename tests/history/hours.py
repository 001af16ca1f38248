"""Made-up hours of scores."""

import numpy as np

from monitor.history.recorder import Block, ScoreRecorder
from monitor.history.steps import DTYPE, Steps

TICK_S = 1.024
BEGINNING = 1_795_255_200  # 2026-11-21T10:00:00Z, s since 1970


def filled(recorder: ScoreRecorder, begin: float, seconds: float, *, ratio: float = 0.5, state: str = "normal") -> float:
    """Push ticks from `begin` on, all alike; returns the time of the last one."""
    at = begin
    for _ in range(int(seconds / TICK_S)):
        at += TICK_S
        recorder.push("fan", at, ratio=ratio, rms_dbfs=-35.0, state=state)
    return at


def hour(begin: int, chance: np.random.Generator, *, noise: float = 1.0, machine: str = "fan") -> Block:
    """An hour of a machine as noisy as the demo's fan, times `noise`. Its ratio is the mean of ten ticks, as in a segment."""
    ticks = chance.lognormal(np.log(0.9), noise * 0.22, 3_609)
    ratios = np.convolve(ticks, np.ones(10) / 10, "valid").reshape(360, 10)
    levels = -35.0 + chance.normal(0.0, noise * 0.09, (360, 10))
    steps = np.zeros(360, DTYPE)
    steps["t"] = begin + 10 * np.arange(360)
    steps["n"] = chance.integers(9, 11, 360)
    for name, values in (("ratio", ratios), ("rms", levels)):
        steps[f"{name}_mean"], steps[f"{name}_min"], steps[f"{name}_max"] = values.mean(1), values.min(1), values.max(1)
    steps["ratio_p50"], steps["ratio_p95"] = np.quantile(ratios, (0.5, 0.95), axis=1)
    steps["states"][:, 1] = 1.0
    return Block(machine, steps, total(steps))


def total(steps: Steps) -> Steps:
    row: Steps = steps[:1].copy()
    row["n"] = steps["n"].sum()
    for name in ("ratio", "rms"):
        row[f"{name}_min"], row[f"{name}_max"] = steps[f"{name}_min"].min(), steps[f"{name}_max"].max()
        row[f"{name}_mean"] = np.average(steps[f"{name}_mean"], weights=steps["n"])
    row["ratio_p50"], row["ratio_p95"] = np.quantile(steps["ratio_p50"], (0.5, 0.95))
    return row
