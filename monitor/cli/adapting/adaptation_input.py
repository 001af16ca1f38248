"""Helpers for `monitor learn` and `monitor calibrate`: arguments, the machine, the service's use of the bundle."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from monitor.bundle import Bundle, load_bundle
from monitor.bundle.write import write_bundle
from monitor.cli.arguments import channel_number, configured_machine, within
from monitor.cli.recording.microphone_input import POLL_S
from monitor.config import MachineConfig, load_config
from monitor.daemon.control.socket import NAME, request
from monitor.errors import SourceError, UsageError
from monitor.learning.on_device import AdaptedBundle

log = logging.getLogger(__name__)
IN_USE_WITHIN_S = 15.0


@dataclass(frozen=True)
class Target:
    """The machine to adapt, and its configured bundle."""

    machine: str | None  # None with `--model`
    settings: MachineConfig | None
    configured: Bundle
    state_dir: Path
    control: Path
    private: bool = False


def add_arguments(
    parser: argparse.ArgumentParser, *, minutes: float, min_minutes: float, max_minutes: float
) -> "argparse._MutuallyExclusiveGroup":
    """Add the options for the machine and its sound; return the group of mutually exclusive sound sources."""
    machine = parser.add_mutually_exclusive_group()
    machine.add_argument("--machine", metavar="ID", help="a configured machine (default: the only one)")
    machine.add_argument("--model", type=Path, metavar="DIR", help="a bundle instead of a machine, with --from and --out")
    sound = parser.add_mutually_exclusive_group()
    sound.add_argument(
        "--minutes",
        type=within(min_minutes, max_minutes),
        default=minutes,
        metavar="N",
        help=f"duration of sound, {min_minutes:g} to {max_minutes:g} (default: {minutes:g})",
    )
    sound.add_argument(
        "--from", dest="files", type=Path, nargs="+", metavar="FILE", help="recordings of the machine, instead of its microphone"
    )
    parser.add_argument(
        "--channel",
        type=channel_number,
        metavar="N",
        help="channel N, counted from 1 (default: the machine's, else the mean of all)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the bundle to DIR and do not change the service")
    # These two are used by the service.
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--progress", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="override checks that the sound matches the trained machine")
    return sound


def follow_service(arguments: argparse.Namespace) -> None:
    """Stop with the service, if it has started this command."""
    if arguments.end_with_stdin:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()


def _exit_with_stdin() -> None:
    """Stop as if by ctrl-C when the process at the other end of stdin exits. It never writes."""
    try:
        os.read(sys.stdin.fileno(), 1)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def find_target(arguments: argparse.Namespace) -> Target:
    """Find the requested machine; otherwise UsageError, which lists the configured ones."""
    config = load_config(arguments.config, os.environ)
    control = config.runtime_dir / NAME
    if arguments.model is not None:
        if not arguments.files or arguments.out is None:
            raise UsageError("--model requires --from FILES and --out DIR, because it names no machine with a microphone")
        return Target(None, None, load_bundle(arguments.model), config.state_dir, control, config.private)
    name = configured_machine(arguments.machine, config)
    settings = config.machines[name]
    if arguments.out is None:
        _check_same_state_dir(config.state_dir, control)
    return Target(name, settings, load_bundle(settings.bundle), config.state_dir, control, config.private)


def take_into_use(target: Target, bundle_id: str) -> str:
    """Make the running service reload; return the result as text."""
    if request(target.control, {"do": "reload"}) is None:
        return "in use from the next start of the service"
    until_s = time.monotonic() + IN_USE_WITHIN_S
    while time.monotonic() < until_s:
        reply = request(target.control, {"do": "status"})
        machines = {} if reply is None else reply.body["machines"]
        if machines.get(target.machine, {}).get("bundle") == bundle_id:
            return "in use"
        if reply is not None and target.machine not in machines:
            return "in use once the machine is enabled"
        time.sleep(POLL_S)
    raise SourceError(f"the bundle was written, but the service does not use {bundle_id}; see its log (journalctl -u stethos)")


def write_out(folder: Path, made: AdaptedBundle) -> None:
    """Write a bundle for `--out` and print its messages."""
    write_bundle(folder, made.files, made.manifest)
    report(made, f"{folder}: {made.messages[-1]}")


def report(made: AdaptedBundle, last: str) -> None:
    """Print the messages. Call this after the bundle is written, so that a closed pipe cannot undo it."""
    print(*made.messages[:-1], last, sep="\n")


def _check_same_state_dir(state_dir: Path, control: Path) -> None:
    """UsageError if the running service uses another state directory, where it would not find the bundle.

    The service's answer is only compared. It may have been made up to have root write to another directory.
    """
    reply = request(control, {"do": "status"})
    used = state_dir if reply is None else Path(str(reply.body.get("state_dir", state_dir)))
    if used.resolve() != state_dir.resolve():
        raise UsageError(f"state_dir must be that of the running service, {used}, got {state_dir}; set it in the configuration")
