"""Figure of one clip's score, and of the fast path's excess, over time."""

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from monitor.scoring.scorer import TickScore
from train.evaluation.close_up import CloseUp
from train.report.style import COLOURS, NAMES, ReportFigure, draw_threshold, render, row


def over_time(detail: CloseUp, *, threshold: float, fast_threshold: float | None, unit: str) -> ReportFigure:
    """The score of one clip, second by second, and of the segments that end there.

    Below it, where the bundle has the fast path, the excess of the loudest band over its ceiling.
    """
    fast = [(tick, tick.excess_db) for tick in detail.ticks if tick.excess_db is not None and fast_threshold is not None]

    def draw(figure: Figure) -> None:
        axes, *lower_axes = row(figure, 1, n_rows=2 if fast else 1, sharex=True)
        alone = [(tick, tick.tick_score) for tick in detail.ticks if tick.tick_score is not None]
        segments = [(tick.stop / detail.rate_hz, tick.score) for tick in detail.ticks if tick.score is not None]
        _steps(axes, alone, detail, label="each tick alone")
        if segments:
            colour = COLOURS[detail.score.clip.label]
            axes.plot(*zip(*segments, strict=True), color=colour, marker="o", markersize=3, label="segment ending here")
        draw_threshold(axes, threshold, vertical=False, label="threshold for segments")
        axes.set(ylabel=unit)
        figure.suptitle(f"{NAMES[detail.score.clip.label]} clip")
        axes.set_ylim(0, 1.3 * max(threshold, *(score for _, score in alone)))
        for lower in lower_axes:
            assert fast_threshold is not None
            _steps(lower, fast, detail, label="loudest band")
            draw_threshold(lower, fast_threshold, vertical=False, label="fast-path threshold")
            lower.set(ylabel="dB over its ceiling")
            lower.set_ylim(top=1.1 * max(fast_threshold, *(value for _, value in fast)))
        for one in (axes, *lower_axes):
            one.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.0)
        (lower_axes or [axes])[-1].set_xlabel("time, s")

    reading = "The score over the length of the clip. The device decides on segments (dots), which smooth out single bangs."
    if fast:
        reading += " Below: values above the dashed line for two seconds are louder than all normal sound and reported at once."
    return render(draw, key="time", title="Score over time", reading=reading, size=(9.0, 5.8 if fast else 3.6))


def _steps(axes: Axes, values: list[tuple[TickScore, float]], detail: CloseUp, *, label: str) -> None:
    """A level line for each tick."""
    lines = [((tick.start / detail.rate_hz, value), (tick.stop / detail.rate_hz, value)) for tick, value in values]
    axes.add_collection(LineCollection(lines, colors=COLOURS[detail.score.clip.label], alpha=0.5, linewidths=2, label=label))
    axes.autoscale_view()
