"""The three figures at the top of the page: scores against the levels, spectrum of a typical clip, score over time."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monitor.arrays import F64
from monitor.block import Block
from monitor.explain.describe import comparable_level, describe
from monitor.explain.reference import Reference
from monitor.scoring.frames import scorable_frames
from monitor.scoring.tick_sound import TickSound, tick_sound
from train.datasets.clip import Label
from train.evaluation.close_up import CloseUp
from train.evaluation.evaluate import ClipScore, Evaluation
from train.report.style import NAMES, PAGE, ReportFigure, logarithmic, render, row

_SIZE = (4.2, 2.5)  # inches: a third of the page, or all of a phone's
_WIDE = 5.0  # a larger ratio of scores is drawn on a logarithmic axis
_INK, _MUTED, _NORMAL, _WARNING, _ALARM = (PAGE[f"--{name}"] for name in ("ink", "muted", "normal", "warning", "alarm"))
_MARKS: dict[Label, tuple[str, str]] = {"normal": ("o", _NORMAL), "anomaly": ("^", _ALARM)}  # a shape for each colour


def front_figures(evaluation: Evaluation, details: Sequence[CloseUp]) -> list[ReportFigure]:
    """The figures that the data allows."""
    drawn = [_scores(evaluation), _spectrum(evaluation, details), _over_time(evaluation, details)]
    return [figure for figure in drawn if figure is not None]


def _scores(evaluation: Evaluation) -> ReportFigure:
    """Every clip's score as a multiple of the warning level, a row for each kind."""
    kinds: list[tuple[str, str, str, Sequence[ClipScore]]] = [
        (NAMES[label], *_MARKS[label], clips) for label in ("anomaly", "normal") if (clips := evaluation.labelled(label))
    ]

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        for at, (_, marker, colour, clips) in enumerate(kinds):
            ratios = np.array([one.score or 0.0 for one in clips]) / evaluation.threshold
            spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(ratios))  # so that marks do not cover each other
            axes.scatter(ratios, at + spread, s=26, marker=marker, color=colour, alpha=0.7, linewidths=0)
        _draw_levels(axes, evaluation.threshold, evaluation.alarm_threshold, vertical=True)
        axes.set_yticks(range(len(kinds)), [f"{name}\n({len(clips)})" for name, *_, clips in kinds])
        axes.set(xlabel="score, x the threshold", ylim=(-0.6, len(kinds) - 0.4))
        axes.grid(False, axis="y")

    alarm = "" if evaluation.alarm_threshold is None else ", right of the second an alarm"
    reading = f"Each mark is a clip. Right of the first line it is reported{alarm}."
    return _render(draw, key="levels", title="Scores of all clips", reading=reading)


def _spectrum(evaluation: Evaluation, details: Sequence[CloseUp]) -> ReportFigure | None:
    """Level per band of a typical clip, anomalous if possible, at its highest score, against that of normal sound."""
    detail, expected = details[-1], evaluation.bundle.expected
    if expected is None and len(details) == 1:
        return None
    spec, sounds = evaluation.bundle.manifest.front_end, _loudest_segment(evaluation, detail)
    if expected is None:
        mean_db = details[0].frames.mean(axis=0)
        expected = Reference(mean_db, np.ones_like(mean_db))
    normal_db, present_db = expected.best_levels.mean_db, comparable_level(sounds, expected, spec)

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        at = np.arange(len(normal_db)) + 0.5
        axes.fill_between(at, normal_db, present_db, where=present_db > normal_db, color=_ALARM, alpha=0.3, linewidth=0)
        axes.plot(at, normal_db, color=_MUTED, linewidth=1.2)
        axes.plot(at, present_db, color=_INK, linewidth=1.2)
        limits_hz = spec.band_limits_hz()
        ticks = np.linspace(0, len(limits_hz) - 1, 6).round().astype(int)
        axes.set_xticks(ticks, [f"{limits_hz[i]:.0f}" if limits_hz[i] < 1000 else f"{limits_hz[i] / 1000:.2g}k" for i in ticks])
        axes.set(xlabel="frequency, Hz", ylabel="level, dB")
        axes.set_title("expected", color=_MUTED, loc="left", fontsize=10)
        axes.set_title("present", color=_INK, loc="right", fontsize=10)

    found = describe(sounds, expected, spec).summary
    reading = f"{found[0].upper()}{found[1:]}."
    return _render(draw, key="spectrum", title=f"What differs in a typical {_kind(detail)} clip", reading=reading)


def _over_time(evaluation: Evaluation, details: Sequence[CloseUp]) -> ReportFigure | None:
    """Scores of the segments of typical clips. Those of clips that were trained on are too low to be shown."""
    calibration = evaluation.bundle.manifest.calibration
    shown = [(detail, curve) for detail in details if detail.score.role != "cross-fitted" and len(curve := _curve(detail))]
    if not shown:
        return None

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        ratios = [curve[:, 1] / calibration.threshold for _, curve in shown]
        for (detail, curve), ratio in zip(shown, ratios, strict=True):
            marker, colour = _MARKS[detail.score.clip.label]
            axes.plot(curve[:, 0], ratio, color=colour, linewidth=1.4, marker=marker, markersize=3, markevery=0.1)
        _draw_levels(axes, calibration.threshold, calibration.alarm_threshold, vertical=False)
        axes.set(xlabel="time, s", ylabel="score, x the threshold")

    names = " and ".join(_kind(detail) for detail, _ in shown)
    reading = f"A typical {names} clip. The device scores the last ten seconds, every second."
    return _render(draw, key="seconds", title="Score over time", reading=reading)


def _render(draw: Callable[[Figure], None], *, key: str, title: str, reading: str) -> ReportFigure:
    return render(draw, key=key, title=title, reading=reading, size=_SIZE, inline=True)


def _kind(detail: CloseUp) -> str:
    return NAMES[detail.score.clip.label]


def _curve(detail: CloseUp) -> F64:
    """End, s, and score of each full segment (n, 2), or of the longest ones of a clip shorter than a segment."""
    n_ticks = max(tick.n_ticks for tick in detail.ticks)
    found = [(tick.stop / detail.rate_hz, tick.score) for tick in detail.ticks if tick.score and tick.n_ticks == n_ticks]
    return np.array(found, np.float64).reshape(-1, 2)


def _loudest_segment(evaluation: Evaluation, detail: CloseUp) -> list[TickSound]:
    """The sound of the segment with the highest score."""
    manifest = evaluation.bundle.manifest
    spec = manifest.front_end
    ticks = scorable_frames([Block(0, detail.samples)], spec, tick_frames=manifest.tick_frames)
    sounds = [tick_sound(tick, spec) for tick in ticks if tick.frames is not None]
    stop = max(detail.ticks, key=lambda tick: (tick.n_ticks, tick.score or 0.0)).stop
    return [one for one in sounds if one.start < stop][-manifest.segment_ticks :]


def _draw_levels(axes: Axes, warning: float, alarm: float | None, *, vertical: bool) -> None:
    """Lines at 1, the warning level, and at the alarm level, named at their ends; a logarithmic axis where scores spread."""
    levels = [(1.0, "threshold", _ALARM)]
    if alarm is not None:
        levels = [(1.0, "warning", _WARNING), (alarm / warning, "alarm", _ALARM)]
    low, high = (axes.dataLim.intervalx if vertical else axes.dataLim.intervaly).tolist()
    low, high = min(low, 0.8), max(high, 1.2 * levels[-1][0])
    margin = 0.1 * (high - low)
    span = (max(0.0, low - margin), high + margin)
    if low > 0 and high / low > _WIDE:
        logarithmic(axes, vertical=not vertical)
        span = (low / 1.2, high * 1.3)
    (axes.set_xlim if vertical else axes.set_ylim)(*span)
    for value, name, colour in levels:
        is_lower = (value, name) == (1.0, "warning")
        (axes.axvline if vertical else axes.axhline)(value, color=colour, linewidth=1.2)
        place: tuple[float, float] = (value, 1.0) if vertical else (1.01, value)
        axes.annotate(
            name,
            place,
            xycoords=("data", "axes fraction") if vertical else ("axes fraction", "data"),
            color=colour,
            ha="right" if vertical and is_lower else "left",
            va="top" if not vertical and is_lower else "bottom",
            fontsize=9,
        )
