"""Figures of what the model makes of sound: input, reconstruction, error; one window up close; the error of each band."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monitor.arrays import F32, F64
from train.evaluation.close_up import Look
from train.report.sound import draw_image, name_bands
from train.report.style import ANOMALY, COLOURS, NAMES, NORMAL, Plate, render, row

_ZOOM = 32  # values


def reconstructions(looks: Sequence[Look]) -> Plate:
    """Input, reconstruction and error over time and frequency."""

    def draw(figure: Figure) -> None:
        middle = looks[0].target.shape[1] // 2
        rows = [[part[:, middle] for part in (look.target, look.predicted, look.errors)] for look in looks]
        low = min(float(np.percentile(parts[0], 1)) for parts in rows)
        high = max(float(np.percentile(parts[0], 99.9)) for parts in rows)
        worst = max(float(np.percentile(parts[2], 99.9)) for parts in rows)
        grid = row(figure, 3, n_rows=len(looks), sharex="row", sharey=True)
        images = []
        for number, (look, parts) in enumerate(zip(looks, rows, strict=True)):
            for column, (name, part) in enumerate(zip(("input", "reconstruction", "error"), parts, strict=True)):
                axes = grid[3 * number + column]
                span, colours = ((low, high), "viridis") if column < 2 else ((0.0, worst), "magma")
                images.append(draw_image(axes, part, look.limits_hz, step_s=look.window_s, span=span, colours=colours))
                axes.set_title(f"{NAMES[look.score.clip.label]}: {name}")
            grid[3 * number].set_ylabel("frequency, Hz")
        figure.colorbar(images[1], ax=[axes for at, axes in enumerate(grid) if at % 3 < 2], label="level, dB")
        figure.colorbar(images[2], ax=grid[2::3], label="error, dB")

    reading = (
        "The model can only rebuild what it knows: where the third picture is bright, the sound is not what it learnt "
        "(each column is the middle frame of one window)."
    )
    title = "Input, reconstruction and error"
    return render(draw, key="reconstruction", title=title, reading=reading, size=(10.5, 2.9 * len(looks)))


def zooms(looks: Sequence[Look]) -> Plate:
    """One window of each clip as curves, and a zoom to where it errs most."""

    def draw(figure: Figure) -> None:
        grid = row(figure, 2, n_rows=len(looks), sharey=True)
        for number, look in enumerate(looks):
            at = _median_window(look)
            target, predicted = look.target[at].reshape(-1), look.predicted[at].reshape(-1)
            first = _worst_stretch(np.abs(target - predicted))
            name = NAMES[look.score.clip.label]
            whole, zoom = grid[2 * number : 2 * number + 2]
            _draw_window(whole, target, predicted, start=0)
            whole.axvspan(first, first + _ZOOM, color="black", alpha=0.08, linewidth=0)
            whole.set(title=f"{name}: one window (frames: {look.target.shape[1]})", ylabel="level, dB")
            part = slice(first, first + _ZOOM)
            _draw_window(zoom, target[part], predicted[part], start=first)
            zoom.set_title(f"{name}: zoom on the grey stretch")
        for axes in grid[-2:]:
            axes.set_xlabel("value in the window (bands of the first frame, then of the next, …)")
        grid[0].legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")

    reading = "The red area between what went in and what came out is the error: the more of it, the higher the score."
    title = "One window up close"
    return render(draw, key="zoom", title=title, reading=reading, size=(10.5, 2.6 * len(looks)))


def band_error_figure(normal: F64, anomaly: F64, limits_hz: F64) -> Plate:
    """Mean error a band: lines for the mean clip, shades for the middle 80 % of clips."""

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
        axes.legend()

    reading = (
        "Where the orange line leaves the blue shade, the anomaly is heard; that pitch often tells which part is at fault "
        "(the shades hold the middle 80% of clips)."
        if len(anomaly)
        else "How far off the model is at each pitch when all is well (the shade holds the middle 80% of clips)."
    )
    title = "Error of each frequency band"
    return render(draw, key="bands", title=title, reading=reading)


def _draw_window(axes: Axes, target: F32, predicted: F32, *, start: int) -> None:
    at = start + np.arange(len(target))
    axes.fill_between(at, target, predicted, color="#CC0000", alpha=0.35, linewidth=0, label="error")
    axes.plot(at, target, color=NORMAL, linewidth=1.0, label="input")
    axes.plot(at, predicted, color=ANOMALY, linewidth=1.0, label="reconstruction")


def _median_window(look: Look) -> int:
    """The window whose error is the median one."""
    errors = look.errors.mean(axis=(1, 2))
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def _worst_stretch(errors: F32) -> int:
    """Where the run of `_ZOOM` values with the largest sum begins."""
    n = min(_ZOOM, len(errors))
    return int(np.argmax(np.convolve(errors, np.ones(n), mode="valid")))
