"""`monitor learn`: create a machine's first bundle on the device, without a workstation."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

from monitor.bundle.write import bundle_name, check_place
from monitor.cli.adapting import adaptation_input, ask_service
from monitor.cli.adapting.tick_input import collect_ticks
from monitor.daemon.bundles import adaptations as adapted
from monitor.errors import SinkError, UsageError
from monitor.files import as_owner
from monitor.learning.learn import learn
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.report_text import count
from monitor.learning.stored.sessions import LearnedSession, read_sessions, remove_other_sessions, write_session
from monitor.learning.stored.unfinished import UnfinishedSession, remove_unfinished
from monitor.mqtt.messages import LEARN_MINUTES, MAX_LEARN_MINUTES, MIN_LEARN_MINUTES

log = logging.getLogger(__name__)
RESTART_S = 60.0

EPILOG = """\
The machine must run normally, at its usual loads. The network of the configured bundle (for example, the shipped one) is kept;
the statistics of normal sound and the threshold are learned from this machine. No sound is written to disk. To keep the sound,
run `monitor record` at the same time, or record first and run `monitor learn --from CLIPS`. The service keeps running and uses
the new bundle at once. `monitor calibrate --undo` restores the previous one. If the service runs, it does the learning: it goes
on when this command is interrupted, and after a restart of the service.

The session is stored as spectral frames, not as sound (at most 64 MB a machine; nothing with private: true). On another day or
at another load, --extend adds a session and learns from all of them. Without --extend, learning starts over.

  sudo monitor learn
  sudo monitor learn --minutes 30 --extend
  sudo monitor learn --machine pump --from my-pump/normal/*.flac
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    adaptation_input.add_arguments(parser, minutes=LEARN_MINUTES, min_minutes=MIN_LEARN_MINUTES, max_minutes=MAX_LEARN_MINUTES)
    parser.add_argument("--extend", action="store_true", help="learn from this session and all earlier ones")
    parser.add_argument("--stop", action="store_true", help="stop the service's learning and discard what it recorded")
    parser.add_argument("--yes", action="store_true", help="confirm that the machine runs normally; do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Collect sound, learn and write a bundle, and make the service reload."""
    adaptation_input.follow_service(arguments)
    if arguments.extend and (arguments.model or arguments.out):
        raise UsageError("--extend adds to a configured machine's sessions and cannot be combined with --model or --out")
    target = adaptation_input.find_target(arguments)
    if arguments.extend and target.private:
        raise UsageError("--extend needs stored frames of earlier sessions, which the configuration forbids (private: true)")
    if arguments.out is not None:
        name = bundle_name(arguments.out)
        check_place(arguments.out)
        _confirm(arguments, target.machine or name)
        streams = collect_ticks(arguments, target, target.configured)
        adaptation_input.write_out(arguments.out, learn(target.configured, streams, name=name, force=arguments.force))
        return 0
    assert target.machine is not None
    if arguments.stop:
        ask_service.stop_in_service(target)
        print(f"{target.machine}: learning stopped")
        return 0
    _confirm(arguments, target.machine)
    is_asking = not (arguments.files or arguments.channel or arguments.end_with_stdin)
    if is_asking and ask_service.runs_in_service(target):
        command = {"minutes": arguments.minutes, "extend": arguments.extend, "force": arguments.force}
        print(ask_service.learn_in_service(target, command))
        return 0
    wait_s = RESTART_S if arguments.end_with_stdin else 0.0  # the command of a service that was killed may be about to end
    with adapted.only_one(target.state_dir, target.machine, wait_s=wait_s):
        made = _learn_here(arguments, target, target.machine)
    used = adapted.in_use(target.state_dir, target.machine, target.configured)
    state = adaptation_input.take_into_use(target, used.id)
    adaptation_input.report(
        made, f"{target.machine}: {made.messages[-1]} {used.id} is {state}; `monitor calibrate --undo` restores the previous one"
    )
    return 0


def _learn_here(arguments: argparse.Namespace, target: adaptation_input.Target, machine: str) -> AdaptedBundle:
    """Learn a bundle for the service, with --extend also from earlier sessions, and store this session."""
    configured, spec = target.configured, target.configured.manifest.scorer_spec
    with as_owner(target.state_dir) as state:
        earlier = read_sessions(state, machine, spec) if arguments.extend else []
    earlier_streams = [stream for session in earlier for stream in session.streams]
    is_resumable = arguments.end_with_stdin and not target.private
    unfinished = UnfinishedSession(target.state_dir, machine, spec) if is_resumable else None
    streams = collect_ticks(arguments, target, configured, unfinished)
    name = machine if machine[0].isalnum() else configured.manifest.name
    made = learn(configured, [*earlier_streams, *streams], name=name, force=arguments.force)
    if arguments.extend:
        made = replace(made, messages=(_extended(earlier, spec.tick_s), *made.messages))
    bundle = adapted.keep(target.state_dir, machine, configured, made, kind="learn", extends=arguments.extend)
    if arguments.end_with_stdin:
        remove_unfinished(target.state_dir, machine)
    try:
        with as_owner(target.state_dir) as state:
            if not arguments.extend:
                remove_other_sessions(state, machine, bundle)
            if not target.private:
                write_session(state, machine, bundle, streams, spec)
    except SinkError as error:  # the bundle is used anyway
        log.warning("the session was not stored, so --extend cannot use it: %s", error)
    return made


def _extended(earlier: Sequence[LearnedSession], tick_s: float) -> str:
    if not earlier:
        return "no earlier session found; this is the first"
    sessions = ", ".join(session.in_words(tick_s) for session in earlier)
    return f"extends {count(len(earlier), 'earlier session')}: {sessions}"


def _confirm(arguments: argparse.Namespace, machine: str) -> None:
    """Ask a person to confirm that the machine runs normally; UsageError without confirmation."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("confirm that the machine runs normally: give --yes, or run on a terminal")
    when = "in these recordings" if arguments.files else f"now and for the next {arguments.minutes:g} minutes"
    print(f"Does {machine} run normally {when}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("learn needs a machine that runs normally; not confirmed")
