"""The style of figures, and a figure as a PNG with a title and a sentence on how to read it."""

import io
import re
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
# The page's colours (page.html.j2), which an inline figure takes from there.
PAGE = {
    "--ink": "#1c1f23",
    "--muted": "#5a6068",
    "--line": "#dcdad3",
    "--normal": "#2b6e4b",
    "--warning": "#8a5800",
    "--alarm": "#b3241c",
}
_DPI = 110
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": PAGE["--ink"],
    "axes.labelcolor": PAGE["--muted"],
    "axes.edgecolor": PAGE["--line"],
    "xtick.color": PAGE["--line"],
    "ytick.color": PAGE["--line"],
    "xtick.labelcolor": PAGE["--muted"],
    "ytick.labelcolor": PAGE["--muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PAGE["--line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a $ in a name is literal
}


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A figure: PNG bytes, a title and how to read it. `key` names its file. `svg` is drawn in the page's colours."""

    key: str
    title: str
    reading: str
    png: bytes
    svg: str | None = None
    kind: ClassVar[str] = "figure"


def render(
    draw: Callable[[Figure], None],
    *,
    key: str,
    title: str,
    reading: str,
    size: tuple[float, float] = (9.0, 3.6),
    inline: bool = False,
) -> ReportFigure:
    """Draw on a new figure of this size (inches) and return it as a PNG, and as an SVG where it stands `inline`."""
    with mpl.rc_context():
        mpl.rcdefaults()  # matplotlib reads `matplotlibrc` of the current folder, which may even run LaTeX
        mpl.rcParams.update({**_RC, "svg.fonttype": "none", "svg.hashsalt": key})
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
        svg = _svg(figure, title) if inline else None
    return ReportFigure(key=key, title=title, reading=reading, png=png.getvalue(), svg=svg)


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element of the page: its colours and fonts, no size, and no ids but those that are referred to."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*" ?', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" ?', rf'\1role="img" aria-label="{title}" ', svg, count=1)
    for name, colour in PAGE.items():
        svg = svg.replace(colour, f"var({name})")
    return svg.replace("'DejaVu Sans'", "system-ui, sans-serif")


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


def legend(figure: Figure, axes: Axes, *, n_columns: int = 4) -> None:
    """The legend of some axes, below the figure, where it covers no data."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns)
