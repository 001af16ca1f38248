"""`monitor calibrate`: fit a bundle to the microphone, or the place for it, that it now listens with; or undo that."""

import argparse
import os
import signal
import sys
import threading

from monitor.bundle.write import check_place, write_bundle
from monitor.cli import adaptation_input
from monitor.daemon import adaptations as adapted
from monitor.errors import UsageError
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.recalibrate import recalibrate

EPILOG = """\
For a bundle whose microphone, gain or mounting is no longer that of its recordings. The machine must run normally. What it
is heard with now is compared with training: gain (within 15 dB) and a smooth response (within 12 dB) are taken for the
microphone's and corrected. What still does not fit looks like a different machine, or one that is not well, and is refused.
Sound over the threshold is left out. The new bundle stands beside the configured one, which is not touched.

  monitor --config monitor.yaml calibrate --machine fan --minutes 10
  monitor --config monitor.yaml calibrate --machine fan --undo
"""
UNDO = "take back the last calibration, or where there is none the last learning, and forget its session"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    sound = adaptation_input.add_arguments(parser, minutes=10.0, least=1.0, most=120.0)
    sound.add_argument("--undo", action="store_true", help=UNDO)
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)  # for the service that starts it


def run(arguments: argparse.Namespace) -> int:
    """Listen, compare, fit, write, take into use; or go back."""
    if arguments.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    if arguments.undo and (arguments.model or arguments.force or arguments.out or arguments.channel):
        raise UsageError("--undo needs a configured machine and nothing else")
    target = adaptation_input.find_target(arguments)
    if arguments.undo:
        return _undo(target)
    if arguments.out is not None:
        check_place(arguments.out)
    if target.machine is None:
        made = _calibrated(arguments, target)
        write_bundle(arguments.out, made.files, made.manifest)
        adaptation_input.report(made, f"{arguments.out}: {made.messages[-1]}")
        return 0
    with adapted.only_one(target.state_dir, target.machine):
        made = _calibrated(arguments, target)
        if arguments.out is not None:
            write_bundle(arguments.out, made.files, made.manifest)
            adaptation_input.report(made, f"{arguments.out}: {made.messages[-1]}")
            return 0
        adapted.keep(target.state_dir, target.machine, target.configured, made, kind="calibrate")
    used = adapted.in_use(target.state_dir, target.machine, target.configured)
    adaptation_input.report(
        made, f"{target.machine}: {made.messages[-1]}; {used.id} is {adaptation_input.take_into_use(target, used.id)}"
    )
    return 0


def _calibrated(arguments: argparse.Namespace, target: adaptation_input.Target) -> AdaptedBundle:
    base = target.configured
    if target.machine is not None:
        base = adapted.base_of(target.state_dir, target.machine, target.configured)
    return recalibrate(base, adaptation_input.collect_ticks(arguments, target, base), force=arguments.force)


def _undo(target: adaptation_input.Target) -> int:
    assert target.machine is not None  # without --model
    with adapted.only_one(target.state_dir, target.machine):
        undone = adapted.undo(target.state_dir, target.machine)
    used = adapted.in_use(target.state_dir, target.machine, target.configured)
    print(f"{target.machine}: {undone}; {used.id} is {adaptation_input.take_into_use(target, used.id)}")
    return 0


def _end_with_stdin() -> None:
    """End as by ctrl-C when whoever holds the other end has gone; nothing is ever written there."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
