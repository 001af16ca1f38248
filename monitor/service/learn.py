"""`monitor learn`: the first bundle of a machine, made next to it, without a workstation."""

import argparse
import sys

from monitor.bundle.in_place import Made
from monitor.bundle.learn import learn
from monitor.bundle.write import bundle_name, check_place, write_bundle
from monitor.core.errors import UsageError
from monitor.service import adapted, teaching

EPILOG = """\
The machine must run as it does when all is well, at the loads that are usual. The network of the configured bundle (the
shipped one, say) is kept; what is normal, and the threshold, are learned from this machine. No sound is written to disk: to
keep it, `monitor record` at the same time, or first and then `monitor learn --from CLIPS`. The service goes on meanwhile,
and takes the new bundle into use at once. `monitor calibrate --undo` goes back.

  monitor --config monitor.yaml learn --minutes 30
  monitor --config monitor.yaml learn --machine pump --from my-pump/normal/*.flac
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    teaching.add_arguments(parser, minutes=30.0, least=5.5, most=240.0)
    parser.add_argument("--yes", action="store_true", help="the machine runs normally: do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Listen, learn, write, take into use."""
    pupil = teaching.find_pupil(arguments)
    if arguments.out is not None:
        name = bundle_name(arguments.out)
        check_place(arguments.out)
        _confirm(arguments, pupil.machine or name)
        made = _learned(arguments, pupil, name)
        write_bundle(arguments.out, made.files, made.manifest)
        teaching.say(made, f"{arguments.out}: {made.said[-1]}")
        return 0
    assert pupil.machine is not None
    _confirm(arguments, pupil.machine)
    with adapted.only_one(pupil.state_dir, pupil.machine):
        name = pupil.machine if pupil.machine[0].isalnum() else pupil.configured.manifest.name
        made = _learned(arguments, pupil, name)
        adapted.keep(pupil.state_dir, pupil.machine, pupil.configured, made, kind="learn")
    used = adapted.in_use(pupil.state_dir, pupil.machine, pupil.configured)
    state = teaching.take_into_use(pupil, used.id)
    teaching.say(made, f"{pupil.machine}: {made.said[-1]} {used.id} is {state}; `monitor calibrate --undo` goes back")
    return 0


def _learned(arguments: argparse.Namespace, pupil: teaching.Pupil, name: str) -> Made:
    return learn(pupil.configured, teaching.hear(arguments, pupil, pupil.configured), name=name, force=arguments.force)


def _confirm(arguments: argparse.Namespace, machine: str) -> None:
    """A person has to say that what is heard is normal; UsageError where nobody does."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("somebody must confirm that the machine runs normally: --yes, or a terminal to be asked on")
    when = "in these recordings" if arguments.files else f"now, and for the next {arguments.minutes:g} minutes"
    print(f"Does {machine} run as it does when all is well, {when}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("learn needs a machine that runs normally, got no yes")
