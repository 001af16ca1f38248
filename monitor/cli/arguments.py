"""Argument types and checks shared by the commands."""

import argparse
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
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


def number_of(low: int, high: int) -> Callable[[str], int]:
    """For `type=`: a whole number in low..high."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be in {low}..{high}, got {text!r}")
        return int(text)

    return number


def moment(text: str) -> datetime:
    """For `type=`: a time. Without an offset, it is UTC."""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-11-21T10:00:00Z, got {text!r}") from None
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    first, last = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (1970, 9001))
    if not first <= at < last:
        raise argparse.ArgumentTypeError(f"must lie in the years 1970 to 9000, UTC, got {text!r}")
    return at


def local_time(at: datetime) -> str:
    """A time for people, in the local time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def recent_time(at: datetime) -> str:
    """The same, without the date if it is today."""
    local = at.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


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
