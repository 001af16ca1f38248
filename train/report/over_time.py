"""Figure of one clip's score over time, and of what the fast path hears in it."""

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from monitor.scoring.scorer import TickScore
from train.evaluation.close_up import Look
from train.report.style import COLOURS, NAMES, Plate, draw_threshold, render, row


def over_time(look: Look, *, threshold: float, fast_threshold: float | None, unit: str) -> Plate:
    """The score of one clip, second by second, and of the segments that end there.

    Beneath it, where the bundle has the fast path, by how much the loudest band passes its ceiling.
    """
    fast = [(tick, tick.excess_db) for tick in look.ticks if tick.excess_db is not None and fast_threshold is not None]

    def draw(figure: Figure) -> None:
        axes, *beneath = row(figure, 1, n_rows=2 if fast else 1, sharex=True)
        alone = [(tick, tick.tick_score) for tick in look.ticks if tick.tick_score is not None]
        segments = [(tick.stop / look.rate_hz, tick.score) for tick in look.ticks if tick.score is not None]
        _steps(axes, alone, look, label="each tick alone")
        if segments:
            colour = COLOURS[look.score.clip.label]
            axes.plot(*zip(*segments, strict=True), color=colour, marker="o", markersize=3, label="segment that ends here")
        draw_threshold(axes, threshold, vertical=False, label="threshold for segments")
        axes.set(ylabel=unit, title=f"{NAMES[look.score.clip.label]} clip")
        axes.set_ylim(0, 1.3 * max(threshold, *(score for _, score in alone)))
        for lower in beneath:
            assert fast_threshold is not None
            _steps(lower, fast, look, label="loudest band")
            draw_threshold(lower, fast_threshold, vertical=False, label="threshold of the fast path")
            lower.set(ylabel="dB over its ceiling")
            lower.set_ylim(top=1.3 * max(fast_threshold, *(value for _, value in fast)))  # room for the legend
        for one in (axes, *beneath):
            one.legend(loc="upper right", ncols=3)
        (beneath or [axes])[-1].set_xlabel("time, s")

    reading = (
        "How the score moves while the clip plays; the device decides on the dotted segments, which smooth out single bangs."
    )
    if fast:
        reading += " Beneath: what passes the dashed line is louder than all normal sound for two seconds, and told at once."
    return render(draw, key="time", title="Score over time", reading=reading, size=(9.0, 5.8 if fast else 3.6))


def _steps(axes: Axes, values: list[tuple[TickScore, float]], look: Look, *, label: str) -> None:
    """A level line for each tick."""
    lines = [((tick.start / look.rate_hz, value), (tick.stop / look.rate_hz, value)) for tick, value in values]
    axes.add_collection(LineCollection(lines, colors=COLOURS[look.score.clip.label], alpha=0.5, linewidths=2, label=label))
    axes.autoscale_view()
