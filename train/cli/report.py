"""`train report`: compare the reports of two bundles."""

import argparse
from pathlib import Path

from train.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    report = commands.add_parser(
        "report",
        help="compare two reports",
        description="Compare two reports of `train evaluate` on the same clips: which bundle is better, metrics, and figures.",
    )
    report.add_argument("--compare", type=Path, nargs=2, required=True, metavar=("A", "B"), help="two reports")
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="the comparison to write or replace")
    report.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from train.report import compare
    from train.report.write import PAGE

    one, other = arguments.compare
    said = compare(one, other, arguments.out)
    print("\n".join((*said.lines, f"wrote {arguments.out / PAGE}", f"next: {said.next_step}")))
