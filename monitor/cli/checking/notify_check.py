"""`monitor notify-test`: send a test message to each target of `notify`, in the same way as the service does."""

import argparse
import io
import os
import time
from datetime import datetime, timezone

from PIL import Image, ImageDraw

from monitor.cli.arguments import configured_machine
from monitor.config import Config, NotifyConfig, load_config
from monitor.errors import SinkError, UsageError
from monitor.notify.child import Outcome, run_jobs
from monitor.notify.job import make_job
from monitor.notify.message import render, test_event

EPILOG = """\
Sends to the targets without the service. `monitor test-alarm` tests the whole chain, with the service.

  sudo monitor notify-test
  sudo monitor notify-test shift --machine fan
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("target", nargs="?", metavar="TARGET", help="a target of `notify` (default: all)")
    parser.add_argument(
        "--machine", metavar="ID", help="the machine to name in the message (default: the first that the target has)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each target; return 0 if every message was sent, else 1."""
    config = load_config(arguments.config, os.environ)
    targets = chosen_targets(config, arguments.target)
    machine = None if arguments.machine is None else configured_machine(arguments.machine, config)
    n_failed = 0
    for name, target in targets.items():
        allowed = target.machines or list(config.machines)
        if machine is not None and machine not in allowed:
            if arguments.target is not None:
                raise UsageError(f"--machine must be one of {', '.join(allowed)} for {name}, got {machine}")
            print(f"{name}: skipped, it receives no messages about {machine}")
            continue
        began = time.monotonic()
        outcome = send_test(config, name, target, machine or next(iter(allowed), "none"))
        n_failed += outcome.error is not None
        took_s = time.monotonic() - began
        print(f"{name}: " + (f"sent in {took_s:.1f} s" if outcome.error is None else f"FAILED: {outcome.error}"), flush=True)
    return 1 if n_failed else 0


def chosen_targets(config: Config, name: str | None) -> dict[str, NotifyConfig]:
    """The named target, or all. UsageError if there is none."""
    if not config.notify:
        raise UsageError("the configuration has no target (notify), see docs/notifications.md")
    if name is None:
        return dict(config.notify)
    if name not in config.notify:
        raise UsageError(f"TARGET must be one of {', '.join(config.notify)}, got {name}")
    return {name: config.notify[name]}


def send_test(config: Config, name: str, target: NotifyConfig, machine: str) -> Outcome:
    """Send a message that is marked as a test, whatever the hour."""
    now = datetime.now(timezone.utc)
    settings = config.machines.get(machine)
    display = (None if settings is None else settings.name) or machine
    message = render(target, name, test_event(config.node, machine, now), name=display, headline="TEST", now=now)
    if "TEST" not in message.title:
        message = message.marked("TEST")
    try:
        url = target.read_url(name)
    except SinkError as error:
        return Outcome(str(error))
    return run_jobs(make_job(url, message, _picture() if target.picture else None))[0]


def _picture() -> bytes:
    image = Image.new("RGB", (240, 80), "white")
    ImageDraw.Draw(image).text((20, 32), "Stethos: test picture", fill="black")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
