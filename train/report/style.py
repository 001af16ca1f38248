"""The style of figures, and a figure as a PNG with a title and a sentence on how to read it."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

NORMAL, ANOMALY, TRAINING, QUIET = "#0072B2", "#D55E00", "#009E73", "#777777"  # distinguishable with colour blindness
COLOURS = {"normal": NORMAL, "anomaly": ANOMALY, "training": TRAINING, "held out": "#CC79A7", "cross-fitted": TRAINING}
NAMES = {
    "normal": "normal",
    "anomaly": "anomalous",
    "training": "training",
    "held out": "held out",
    "cross-fitted": "training, cross-fitted",
}
_DPI = 110
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a $ in a name is literal
}


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A figure: PNG bytes, a title and how to read it. `key` names its file."""

    key: str
    title: str
    reading: str
    png: bytes
    kind: ClassVar[str] = "figure"


def render(
    draw: Callable[[Figure], None], *, key: str, title: str, reading: str, size: tuple[float, float] = (9.0, 3.6)
) -> ReportFigure:
    """Draw on a new figure of this size (inches) and return it as a PNG."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return ReportFigure(key=key, title=title, reading=reading, png=png.getvalue())


def row(figure: Figure, n: int, *, n_rows: int = 1, **shared: Any) -> list[Axes]:
    """Axes of a figure, row by row."""
    return [axes for line in figure.subplots(n_rows, n, squeeze=False, **shared) for axes in line]


def logarithmic(axes: Axes, *, vertical: bool) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2, 5, 10, 20, …"""
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_threshold(axes: Axes, threshold: float, *, vertical: bool, label: str = "threshold") -> None:
    """The line of a threshold."""
    line = axes.axvline if vertical else axes.axhline
    line(threshold, color="black", linestyle="--", linewidth=1.2, label=f"{label} {threshold:.4g}")


def draw_levels(axes: Axes, warning: float, alarm: float | None, *, vertical: bool) -> None:
    """The line of each level, or of the single threshold."""
    if alarm is None:
        draw_threshold(axes, warning, vertical=vertical)
        return
    draw_threshold(axes, warning, vertical=vertical, label="warning from")
    line = axes.axvline if vertical else axes.axhline
    line(alarm, color="black", linestyle="-.", linewidth=1.2, label=f"alarm from {alarm:.4g}")
