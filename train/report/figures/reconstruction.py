"""Figures of the reconstruction: input, output and error; one window in detail; the error of each band."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monitor.arrays import F32, F64
from train.evaluation.close_up import CloseUp
from train.report.sound import draw_image, name_bands
from train.report.style import ANOMALY, COLOURS, NAMES, NORMAL, ReportFigure, legend, render, row

_ZOOM = 32  # values


def reconstructions(details: Sequence[CloseUp]) -> ReportFigure:
    """Input, reconstruction and error over time and frequency."""

    def draw(figure: Figure) -> None:
        middle = details[0].target.shape[1] // 2
        rows = [[part[:, middle] for part in (detail.target, detail.predicted, detail.errors)] for detail in details]
        low = min(float(np.percentile(parts[0], 1)) for parts in rows)
        high = max(float(np.percentile(parts[0], 99.9)) for parts in rows)
        worst = max(float(np.percentile(parts[2], 99.9)) for parts in rows)
        grid = row(figure, 3, n_rows=len(details), sharex="row", sharey=True)
        images = []
        for number, (detail, parts) in enumerate(zip(details, rows, strict=True)):
            for column, (name, part) in enumerate(zip(("input", "reconstruction", "error"), parts, strict=True)):
                axes = grid[3 * number + column]
                span, colours = ((low, high), "viridis") if column < 2 else ((0.0, worst), "magma")
                images.append(draw_image(axes, part, detail.limits_hz, step_s=detail.window_s, span=span, colours=colours))
                axes.set_title(f"{NAMES[detail.score.clip.label]}: {name}")
            grid[3 * number].set_ylabel("frequency, Hz")
        figure.colorbar(images[1], ax=[axes for at, axes in enumerate(grid) if at % 3 < 2], label="level, dB")
        figure.colorbar(images[2], ax=grid[2::3], label="error, dB")

    reading = (
        "The model reconstructs only sound like that of its training: where the third picture is bright, the sound differs "
        "(each column is the middle frame of one window)."
    )
    title = "Input, reconstruction and error"
    return render(draw, key="reconstruction", title=title, reading=reading, size=(10.5, 2.9 * len(details)))


def zooms(details: Sequence[CloseUp]) -> ReportFigure:
    """One window of each clip as curves, and a zoom on its largest error."""

    def draw(figure: Figure) -> None:
        grid = row(figure, 2, n_rows=len(details), sharey=True)
        for number, detail in enumerate(details):
            at = _median_window(detail)
            target, predicted = detail.target[at].reshape(-1), detail.predicted[at].reshape(-1)
            first = _worst_stretch(np.abs(target - predicted))
            name = NAMES[detail.score.clip.label]
            whole, zoom = grid[2 * number : 2 * number + 2]
            _draw_window(whole, target, predicted, start=0)
            whole.axvspan(first, first + _ZOOM, color="black", alpha=0.08, linewidth=0)
            whole.set(title=f"{name}: one window (frames: {detail.target.shape[1]})", ylabel="level, dB")
            part = slice(first, first + _ZOOM)
            _draw_window(zoom, target[part], predicted[part], start=first)
            zoom.set_title(f"{name}: zoom on the grey part")
        for axes in grid[-2:]:
            axes.set_xlabel("value in the window (bands of the first frame, then of the next, …)")
        legend(figure, grid[0])

    reading = "The red area between input and output is the error: the larger it is, the higher the score."
    title = "One window in detail"
    return render(draw, key="zoom", title=title, reading=reading, size=(10.5, 2.6 * len(details)))


def band_error_figure(normal: F64, anomaly: F64, limits_hz: F64) -> ReportFigure:
    """Mean error per band: lines for the mean of clips, shades for the middle 80 % of clips."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        at = np.arange(len(limits_hz) - 1) + 0.5
        for errors, label in ((normal, "normal"), (anomaly, "anomaly")):
            if len(errors):
                low, high = np.percentile(errors, (10, 90), axis=0)
                axes.fill_between(at, low, high, color=COLOURS[label], alpha=0.2, linewidth=0)
                axes.plot(at, errors.mean(axis=0), color=COLOURS[label], label=f"{NAMES[label]}, {len(errors)} clips")
        axes.set(xlabel="frequency, Hz", ylabel="mean absolute error, dB")
        axes.set_ylim(bottom=0)
        name_bands(axes, limits_hz, vertical=False)
        legend(figure, axes)

    reading = (
        "Where the orange line leaves the blue shade, the anomaly shows; the frequency often indicates the faulty part "
        "(the shades hold the middle 80% of clips)."
        if len(anomaly)
        else "The model's error at each frequency for normal clips (the shade covers the middle 80% of clips)."
    )
    title = "Error of each frequency band"
    return render(draw, key="bands", title=title, reading=reading)


def _draw_window(axes: Axes, target: F32, predicted: F32, *, start: int) -> None:
    at = start + np.arange(len(target))
    axes.fill_between(at, target, predicted, color="#CC0000", alpha=0.35, linewidth=0, label="error")
    axes.plot(at, target, color=NORMAL, linewidth=1.0, label="input")
    axes.plot(at, predicted, color=ANOMALY, linewidth=1.0, label="reconstruction")


def _median_window(detail: CloseUp) -> int:
    """The window with the median error."""
    errors = detail.errors.mean(axis=(1, 2))
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def _worst_stretch(errors: F32) -> int:
    """The start of the run of `_ZOOM` values with the largest sum."""
    n = min(_ZOOM, len(errors))
    return int(np.argmax(np.convolve(errors, np.ones(n), mode="valid")))
