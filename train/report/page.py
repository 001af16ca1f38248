"""A self-contained HTML page: sections of text, tables, figures and players, rendered with one template."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import jinja2

from train.report.player import Player
from train.report.style import ReportFigure
from train.report.verdict import Verdict

_HALF_PAGE = 700  # pixels, of a figure's PNG


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a head; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    words: bool = False  # text, not right-aligned numbers
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Note:
    """A paragraph; a warning is set apart."""

    text: str
    warning: bool = False
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Pair:
    """Two figures side by side, or one above the other where they are too wide to be read at half their size."""

    left: ReportFigure
    right: ReportFigure
    kind: ClassVar[str] = "pair"

    @property
    def wide(self) -> bool:
        """Whether one of them takes more than half a page."""
        return any(int.from_bytes(figure.png[16:20], "big") > _HALF_PAGE for figure in (self.left, self.right))


Item: TypeAlias = Table | Note | ReportFigure | Pair | Player


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; links point to `key`."""

    key: str
    title: str
    items: Sequence[Item]


@dataclass(frozen=True, kw_only=True)
class Front:
    """The first screen: the verdict, figures and sounds. `gain` says how loud the sounds are played."""

    verdict: Verdict
    figures: Sequence[ReportFigure] = ()
    players: Sequence[Player] = ()
    gain: str = ""


def render_page(title: str, sections: Sequence[Section], *, front: Front | None = None) -> bytes:
    """The page, UTF-8; everything outside the template is escaped. Behind a front the sections are folded away."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    shown = [section for section in sections if section.items]
    return template.render(title=title, sections=shown, front=front, png_uri=_png_uri).encode("utf-8", "replace")


def number(value: float | None, *, digits: int = 3) -> str:
    """A number as text; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as text; a dash for None."""
    return "-" if value is None else f"{value:.1%}"


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
