"""The results of a benchmark: tables and sentences, printed as Markdown and written as JSON.

A benchmark needs two lines:

    arguments = make_parser(__doc__).parse_args()
    publish([Table("latency", ["event", "ms"], rows), "10 events of one node"], arguments.json)

The parts may also be a generator, for results that take long.
"""

import argparse
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import chain, islice, tee
from pathlib import Path

from monitor import __version__
from monitor.errors import StethosError

NUMBER = re.compile(r"[-+]?\.?\d|-?$")  # the start of a number, or a cell without one
ROW = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")


@dataclass(frozen=True)
class Table:
    """A table, whose title is the same in every run. Rows that take long are best computed while they are printed.

    The first row decides which columns hold numbers.
    """

    title: str
    header: Sequence[object]
    rows: Iterable[Sequence[object]]

    def lines(self) -> Iterator[str]:
        """The lines of the table in Markdown, without its title, each one as soon as its row is known."""
        rows = iter(self.rows)
        first = list(islice(rows, 1))
        yield _line(self.header)
        yield "|" + "".join("---:|" if NUMBER.match(str(cell)) else "---|" for cell in (first or [self.header])[0])
        for number, row in enumerate(chain(first, rows), 1):
            if len(row) != len(self.header):
                raise StethosError(f"row {number} of table {self.title} must have {len(self.header)} cells, got {len(row)}")
            yield _line(row)


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run of a benchmark. `None` stands for something that was not recorded."""

    command: str
    version: str | None = None
    date: str | None = None
    computer: str | None = None
    tables: Sequence[Table] = ()
    sentences: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report that a file written by `--json` holds."""
        try:
            content = json.loads(path.read_text())
            tables = [Table(**table) for table in content.pop("tables", ())]
            for table in tables:
                list(table.lines())
            if len({table.title for table in tables}) < len(tables):
                raise ValueError("two tables have the same title")
            return cls(**content, tables=tables)
        except (AttributeError, TypeError, ValueError, StethosError) as error:
            raise StethosError(f"{path.name} is not the report of a benchmark: {error}") from error

    def to_json(self) -> str:
        """The text of such a file, with a line for each row."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        return ROW.sub(lambda found: "[" + re.sub(r"\n\s+", " ", found[1]) + "]", text) + "\n"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with the option that all of them share."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[_json_option()]
    )


def publish(parts: Iterable[Table | str], json_file: Path | None) -> None:
    """Print the tables and sentences of a run as they come. The file of `--json`, if any, has all that are complete."""
    tables: list[Table] = []
    sentences: list[str] = []
    for part in parts:
        if isinstance(part, str):
            sentences.append(part)
            print(f"{part}\n", flush=True)
        else:
            printed, kept = tee(part.rows)
            print(f"{part.title}:\n", flush=True)
            for line in replace(part, rows=printed).lines():
                print(line, flush=True)
            print()
            tables.append(Table(part.title, list(map(str, part.header)), [list(map(str, row)) for row in kept]))
        if json_file is not None:
            report = Report(
                command=_command(),
                version=__version__,
                date=datetime.now(timezone.utc).date().isoformat(),
                computer=f"{platform.machine()}, {os.cpu_count()} cores",
                tables=tables,
                sentences=sentences,
            )
            json_file.write_text(report.to_json())


def _line(cells: Sequence[object]) -> str:
    texts = (" ".join(str(cell).split()).replace("|", r"\|") for cell in cells)
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)


def _json_option() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables to this file, too")
    return parser


def _command() -> str:
    """The command line of this process, without `--json`."""
    spec = sys.modules["__main__"].__spec__
    return shlex.join(["python", "-m", spec.name if spec else "", *_json_option().parse_known_args()[1]])
