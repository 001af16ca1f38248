"""Figures of sound: waveforms, spectra and spectrograms of a normal and an anomalous clip."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy import signal

from monitor.arrays import F32, F64
from train.evaluation.close_up import CloseUp
from train.report.style import COLOURS, NAMES, ReportFigure, legend, logarithmic, render, row

_MAX_POINTS = 4000
_MAX_BANDS = 512


def waveforms(details: Sequence[CloseUp]) -> ReportFigure:
    """Amplitude over time."""

    def draw(figure: Figure) -> None:
        peak = max(float(np.abs(detail.samples).max()) for detail in details) * 1.05 or 1.0
        for axes, detail in zip(row(figure, len(details), sharey=True), details, strict=True):
            time_s, low, high = _envelope(detail.samples, detail.rate_hz)
            axes.fill_between(time_s, low, high, color=COLOURS[detail.score.clip.label], linewidth=0.4)
            axes.set(title=_title(detail), xlabel="time, s", ylim=(-peak, peak))
        figure.axes[0].set_ylabel("amplitude, full scale = 1")

    reading = "Louder sound is taller, and bangs and knocks show as spikes. Both clips have the same scale."
    return render(draw, key="waveforms", title="Waveforms", reading=reading, size=(9.0, 2.8))


def spectra(details: Sequence[CloseUp]) -> ReportFigure:
    """Power spectral density by Welch's method."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        for detail in details:
            n = min(4096, len(detail.samples))
            hz, density = signal.welch(detail.samples, detail.rate_hz, nperseg=n)
            label = detail.score.clip.label
            level_db = 10 * np.log10(np.maximum(density[1:], 1e-20))
            axes.plot(hz[1:], level_db, color=COLOURS[label], linewidth=1.0, label=_title(detail))
        axes.set(xlabel="frequency, Hz", ylabel="level, dB (full scale²/Hz)")
        logarithmic(axes, vertical=False)
        axes.set_xlim(20, details[0].rate_hz / 2)
        legend(figure, axes)

    reading = (
        "Where the curves differ, one clip is louder at that frequency. Narrow peaks are rotating parts, broad humps are flow "
        "or friction."
    )
    return render(draw, key="spectra", title="Spectra", reading=reading)


def spectrograms(details: Sequence[CloseUp]) -> ReportFigure:
    """The frames of the front end, the model's input."""

    def draw(figure: Figure) -> None:
        low = min(float(np.percentile(detail.frames, 1)) for detail in details)
        high = max(float(np.percentile(detail.frames, 99.9)) for detail in details)
        all_axes = row(figure, len(details), sharey=True)
        for axes, detail in zip(all_axes, details, strict=True):
            image = draw_image(axes, detail.frames, detail.limits_hz, step_s=detail.frame_s, span=(low, high))
            axes.set_title(_title(detail))
        all_axes[0].set_ylabel("frequency, Hz")
        figure.colorbar(image, ax=all_axes, label="level, dB")

    reading = "Time runs to the right, frequency upwards, and brighter is louder. A fault shows as new stripes, dots or patches."
    return render(draw, key="spectrograms", title="Spectrograms of the model's input", reading=reading)


def draw_image(
    axes: Axes, frames: F32, limits_hz: F64, *, step_s: float, span: tuple[float, float], colours: str = "viridis"
) -> AxesImage:
    """Draw frames (m, n_bands) over time and frequency, every band equally high; returns the image for a colour bar."""
    n_bands = frames.shape[1]
    width = -(-n_bands // _MAX_BANDS)  # bands drawn as one
    starts = np.arange(0, n_bands, width)
    shown = np.add.reduceat(frames, starts, axis=1) / np.diff(starts, append=n_bands)
    image = axes.imshow(
        shown.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        vmin=span[0],
        vmax=max(span[1], span[0] + 1e-3),
        extent=(0.0, len(frames) * step_s, 0.0, float(n_bands)),
    )
    name_bands(axes, limits_hz, vertical=True)
    axes.set_xlabel("time, s")
    axes.grid(False)
    return image


def name_bands(axes: Axes, limits_hz: F64, *, vertical: bool) -> None:
    """Label an axis of bands with frequencies."""
    at = np.linspace(0, len(limits_hz) - 1, 7).round().astype(int)
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_ticks(list(at), [f"{limits_hz[i]:.0f}" for i in at])


def _envelope(samples: F32, rate_hz: int) -> tuple[F64, F32, F32]:
    """Time (n,), s, and lowest and highest sample of equal parts, to draw a long clip with few points."""
    n = max(1, -(-len(samples) // _MAX_POINTS))
    starts = np.arange(0, len(samples), n)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    return starts / rate_hz, low, high


def _title(detail: CloseUp) -> str:
    return f"{NAMES[detail.score.clip.label]} clip"
