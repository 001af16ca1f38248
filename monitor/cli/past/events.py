"""`monitor events`: list the events of the past."""

import argparse
import os
import sys
from typing import Any

from monitor.cli.arguments import local_time, moment, number_of
from monitor.cli.past import source
from monitor.config import load_config
from monitor.errors import printable
from monitor.events.event import from_rfc3339
from monitor.json_lines import JsonLines
from monitor.learning.report_text import duration

LINE = "{:<19}  {:<12}  {:<8}  {:>7}  {:>8}  {:<10}  {:<4}  {}"
EPILOG = """\
The newest event comes first. `peak` is the largest score / threshold, `end` the reason for the end of the event, or `open`, and
`ack` whether its alarm was acknowledged. --json prints one event per line, as in docs/control.md. The events come from the
running service, or from its state directory if it does not run.

  monitor events --machine fan --limit 100
  monitor events --before 2026-11-21T10:00:00Z --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--machine", metavar="ID", help="of this machine only (default: of all)")
    parser.add_argument("--before", type=moment, metavar="UTC", help="started before this time, such as 2026-11-21T10:00:00Z")
    parser.add_argument(
        "--limit", type=number_of(1, 1_000_000), default=20, metavar="N", help="maximum number of events (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    """Print the events."""
    config = load_config(arguments.config, os.environ)
    found = source.events(config, machine=arguments.machine, before=arguments.before, limit=arguments.limit)
    if arguments.json:
        lines = JsonLines(sys.stdout)
        for event in found:
            lines.write(event)
        return 0
    n = 0
    for event in found:
        if not n:
            print(LINE.format("started", "machine", "severity", "peak", "lasted", "end", "ack", "what is different"))
        n += 1
        print(printable(_line(event)))
    if not n:
        print("no events")
    return 0


def _line(event: dict[str, Any]) -> str:
    return LINE.format(
        local_time(from_rfc3339(event["started_at"])),
        event["machine"],
        event["severity"],
        f"{event['peak_ratio']:.2f} x{'' if event['raised_by'] == 'segments' else ' ' + event['raised_by']}",
        duration(event["duration_s"] / 3_600),
        event["end_reason"] or "open",
        "-" if event["acknowledged_at"] is None else "yes",
        event["summary"] or "-",
    ).rstrip()
