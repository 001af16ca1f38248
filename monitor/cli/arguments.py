"""Argument types and checks shared by the commands."""

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from monitor.errors import UsageError

if TYPE_CHECKING:
    from monitor.config import Config


def within(low: float, high: float) -> Callable[[str], float]:
    """For `type=`: a number in low..high."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be in {low:g}..{high:g}, got {text!r}")
        return value

    return number


def channel_number(text: str) -> int:
    """For `type=`: a channel, counted from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text!r}")
    return int(text)


def selector(text: str) -> str:
    """For `type=`: a microphone's selector."""
    from monitor.config.settings import SELECTOR, SELECTORS

    if not re.fullmatch(SELECTOR, text):
        raise argparse.ArgumentTypeError(f"must be {SELECTORS}, got {text!r}")
    return text


def configured_machine(name: str | None, config: "Config", *, instead: str = "") -> str:
    """The requested machine, by default the only one. UsageError lists the configured ones and the alternative (`instead`)."""
    machines = config.machines
    if name is None and len(machines) == 1:
        (name,) = machines
    if name is None or name not in machines:
        allowed = f"one of {', '.join(machines)}" if machines else f"configured (--config FILE){instead}"
        raise UsageError(f"--machine must be {allowed}, got {name or 'none'}")
    return name
