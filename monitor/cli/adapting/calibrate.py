"""`monitor calibrate`: adapt a bundle to a changed microphone, gain or mounting, or undo that."""

import argparse

from monitor.bundle.write import check_place
from monitor.cli.adapting import adaptation_input
from monitor.cli.adapting.tick_input import collect_ticks
from monitor.daemon.bundles import adaptations as adapted
from monitor.errors import UsageError
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.recalibrate import recalibrate

EPILOG = """\
Use it when the microphone, its gain or its mounting differs from the recordings that the bundle was trained on. The machine
must run normally. The sound is compared with training: a gain (within 15 dB) and a smooth frequency response (within 12 dB) are
attributed to the microphone and corrected. Any other difference suggests a different or faulty machine, and calibration is
refused. Sound above the threshold is excluded. The new bundle is stored separately; the configured one is not changed.

  sudo monitor calibrate --machine fan --minutes 10
  sudo monitor calibrate --machine fan --undo
"""
UNDO = "undo the last calibration; if there is none, undo the last learn and delete its session (--force if nothing is left)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    sound = adaptation_input.add_arguments(parser, minutes=10.0, min_minutes=1.0, max_minutes=120.0)
    sound.add_argument("--undo", action="store_true", help=UNDO)


def run(arguments: argparse.Namespace) -> int:
    """Collect sound, compare it, fit and write a bundle, and make the service reload. Or undo that."""
    adaptation_input.follow_service(arguments)
    if arguments.undo and (arguments.model or arguments.out or arguments.channel):
        raise UsageError("--undo accepts --machine and --force and no other option")
    target = adaptation_input.find_target(arguments)
    if arguments.undo:
        return _undo(target, force=arguments.force)
    if arguments.out is not None:
        check_place(arguments.out)
        adaptation_input.write_out(arguments.out, _calibrated(arguments, target))
        return 0
    assert target.machine is not None  # None only with --model, which requires --out
    with adapted.only_one(target.state_dir, target.machine):
        made = _calibrated(arguments, target)
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
    return recalibrate(base, collect_ticks(arguments, target, base), force=arguments.force)


def _undo(target: adaptation_input.Target, *, force: bool) -> int:
    assert target.machine is not None  # --undo excludes --model
    with adapted.only_one(target.state_dir, target.machine):
        undone = adapted.undo(target.state_dir, target.machine, target.configured, force=force)
    used = adapted.in_use(target.state_dir, target.machine, target.configured)
    print(f"{target.machine}: {undone}; {used.id} is {adaptation_input.take_into_use(target, used.id)}")
    return 0
