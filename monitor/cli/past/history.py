"""`monitor history`: print the scores of the past."""

import argparse
import os
import sys
import time
from typing import Any

from monitor.cli.arguments import configured_machine, local_time, moment, within
from monitor.cli.past import source
from monitor.config import load_config
from monitor.errors import UsageError
from monitor.events.event import from_rfc3339
from monitor.json_lines import JsonLines

LINE = "{:<19}  {:>6}  {:>7}  {:>7}  {:>7}  {:>7}  {:>9}  {}"
EPILOG = """\
Each line is one step: the number of scores, minimum, mean, 95 % quantile and maximum of the ratio (score / threshold), the mean
level, and the states with their share of the time. Steps without anything are left out. There are at most 2,000 steps: they are
widened if necessary. --json prints every step, as in docs/control.md. The scores come from the running service, or from its
state directory if it does not run; a killed service loses the unfinished hour.

  monitor history --machine fan --hours 24 --step 900
  monitor history --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --step 86400 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--machine", metavar="ID", help="a machine (default: the only one configured)")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--hours", type=within(0.01, 1e6), default=24.0, metavar="N", help="hours before the end (default: 24)")
    begin.add_argument("--from", dest="begin", type=moment, metavar="UTC", help="from this time on, such as 2026-11-21T10:00:00Z")
    parser.add_argument("--to", dest="end", type=moment, metavar="UTC", help="up to this time (default: now)")
    parser.add_argument("--step", type=within(10, 3.2e7), metavar="S", help="width of a step in s (default: 1/24 of the range)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    """Print the scores."""
    config = load_config(arguments.config, os.environ)
    machine = arguments.machine or configured_machine(None, config)
    end = time.time() if arguments.end is None else arguments.end.timestamp()
    begin = end - 3_600 * arguments.hours if arguments.begin is None else arguments.begin.timestamp()
    if not 0 <= begin < end:
        raise UsageError("--from must be before --to, and after 1970")
    step_s = arguments.step or max(10.0, (end - begin) / 24)
    found = source.history(config, machine=machine, begin=begin, end=end, step_s=step_s)
    if arguments.json:
        lines = JsonLines(sys.stdout)
        for point in found["points"]:
            lines.write({"machine": machine, "step_s": found["step_s"], **point})
        return 0
    points = [point for point in found["points"] if point["n"] or point["states"]]
    if not points:
        print(f"no scores of {machine} in this time")
        return 0
    print(LINE.format(f"steps of {_width(found['step_s'])}", "scores", "min", "mean", "p95", "max", "level", "states"))
    for point in points:
        print(_line(point))
    return 0


def _line(point: dict[str, Any]) -> str:
    ratio, level = point["ratio"], point["rms_dbfs"]["mean"]
    return LINE.format(
        local_time(from_rfc3339(point["t"])),
        point["n"],
        *("-" if ratio[name] is None else f"{ratio[name]:.2g}" for name in ("min", "mean", "p95", "max")),
        "-" if level is None else f"{level:.0f} dBFS",
        ", ".join(f"{state} {100 * share:.0f} %" for state, share in point["states"].items()),
    ).rstrip()


def _width(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
