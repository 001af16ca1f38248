"""`monitor learn`: the first bundle of a machine, made next to it, without a workstation."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

from monitor.bundle.write import bundle_name, check_place, write_bundle
from monitor.cli import adaptation_input
from monitor.daemon import adaptations as adapted
from monitor.errors import SinkError, UsageError
from monitor.learning.learn import learn
from monitor.learning.on_device import AdaptedBundle, tick_s
from monitor.learning.report_text import count
from monitor.learning.sessions import LearnedSession, read_sessions, remove_other_sessions, write_session

log = logging.getLogger(__name__)

EPILOG = """\
The machine must run as it does when all is well, at the loads that are usual. The network of the configured bundle (the
shipped one, say) is kept; what is normal, and the threshold, are learned from this machine. No sound is written to disk: to
keep it, `monitor record` at the same time, or first and then `monitor learn --from CLIPS`. The service goes on meanwhile,
and takes the new bundle into use at once. `monitor calibrate --undo` goes back.

What was heard is kept as frames, no sound (at most 64 MB a machine; nothing where private: true). On another day, or at
another load, --extend adds that session and learns from all of them. Without it learning begins anew.

  monitor --config monitor.yaml learn --minutes 30
  monitor --config monitor.yaml learn --minutes 30 --extend
  monitor --config monitor.yaml learn --machine pump --from my-pump/normal/*.flac
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    adaptation_input.add_arguments(parser, minutes=30.0, least=5.5, most=240.0)
    parser.add_argument(
        "--extend", action="store_true", help="learn from this session and from those that learn has heard before"
    )
    parser.add_argument("--yes", action="store_true", help="the machine runs normally: do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Listen, learn, write, take into use."""
    if arguments.extend and (arguments.model or arguments.out):
        raise UsageError("--extend adds to what a configured machine has learned: leave out --model and --out")
    target = adaptation_input.find_target(arguments)
    if arguments.extend and target.private:
        raise UsageError("--extend needs frames of earlier sessions on disk, which the configuration forbids (private: true)")
    if arguments.out is not None:
        name = bundle_name(arguments.out)
        check_place(arguments.out)
        _confirm(arguments, target.machine or name)
        streams = adaptation_input.collect_ticks(arguments, target, target.configured)
        made = learn(target.configured, streams, name=name, force=arguments.force)
        write_bundle(arguments.out, made.files, made.manifest)
        adaptation_input.report(made, f"{arguments.out}: {made.messages[-1]}")
        return 0
    assert target.machine is not None
    _confirm(arguments, target.machine)
    with adapted.only_one(target.state_dir, target.machine):
        made = _learn_here(arguments, target, target.machine)
    used = adapted.in_use(target.state_dir, target.machine, target.configured)
    state = adaptation_input.take_into_use(target, used.id)
    adaptation_input.report(
        made, f"{target.machine}: {made.messages[-1]} {used.id} is {state}; `monitor calibrate --undo` goes back"
    )
    return 0


def _learn_here(arguments: argparse.Namespace, target: adaptation_input.Target, machine: str) -> AdaptedBundle:
    """Learn for the service, from earlier sessions too where that is asked, and keep this one."""
    configured, spec = target.configured, target.configured.manifest.scorer_spec
    earlier = read_sessions(target.state_dir, machine, spec) if arguments.extend else []
    known = [stream for session in earlier for stream in session.streams]
    streams = adaptation_input.collect_ticks(arguments, target, configured)
    name = machine if machine[0].isalnum() else configured.manifest.name
    made = learn(configured, [*known, *streams], name=name, force=arguments.force)
    if arguments.extend:
        made = replace(made, messages=(_extended(earlier, tick_s(spec)), *made.messages))
    folder = adapted.keep(target.state_dir, machine, configured, made, kind="learn", extends=arguments.extend)
    if not arguments.extend:
        remove_other_sessions(target.state_dir, machine, folder.name)
    if not target.private:
        try:
            write_session(target.state_dir, machine, folder.name, streams, spec)
        except SinkError as error:  # the bundle is in use even so
            log.warning("this session cannot be extended another day: %s", error)
    return made


def _extended(earlier: Sequence[LearnedSession], tick_s: float) -> str:
    if not earlier:
        return "no earlier session is kept: this is the first"
    sessions = ", ".join(session.in_words(tick_s) for session in earlier)
    return f"extends {count(len(earlier), 'session')}, which come before this one's recordings: {sessions}"


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
