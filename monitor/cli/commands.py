"""The commands of `monitor`: their arguments, the daemon, and replays."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import __version__
from monitor.cli.arguments import channel_number, configured_machine, moment, number_of
from monitor.command_line import Parser
from monitor.errors import BundleError, StethosError, UsageError

if TYPE_CHECKING:
    from monitor.bundle import Bundle
    from monitor.clips.recorder import ClipRecorder
    from monitor.clips.worker import Job
    from monitor.config import Config
    from monitor.daemon.state_publisher import StatePublisher
    from monitor.events.event import EventClock
    from monitor.mqtt.publisher import MqttPublisher

log = logging.getLogger(__name__)
COMMANDS = {  # by name: the module of monitor.cli with `run`, `EPILOG` and, if it has arguments, `add_arguments`; the help
    "setup": (
        "setup.command",
        "set up a machine: microphone, broker, Home Assistant, page, service, learning; asks what it must",
    ),
    "devices": ("devices", "list the microphones, their capabilities and their names; --level shows how loud each is"),
    "record": ("record", "record normal sound for training, as FLAC clips"),
    "learn": ("adapting.learn", "learn a machine on this computer, from ten minutes or more of its normal sound"),
    "calibrate": ("adapting.calibrate", "adapt a bundle to a microphone that was changed or moved; --undo reverts it"),
    "status": ("status", "print the state of every machine, since when, and what to do next"),
    "events": ("past.events", "list the events of the past: what was different, how long, whether it was acknowledged"),
    "history": ("past.history", "print the scores of the past: ratio, level and state in steps of 10 s up to days"),
    "check-config": ("checking.check_config", "print the effective settings and their errors"),
    "mqtt-test": ("checking.broker_check", "test the broker step by step: name, port, TLS, login, publish, read back, last will"),
    "notify-test": ("checking.notify_check", "send a test message to the targets of notify, one or all"),
    "test-alarm": ("checking.trial_alarm", "send a marked event through the whole chain: broker, page, notifications"),
    "demo": ("demo", "play recordings through the live service and serve the page; needs no microphone and no broker"),
    "web": ("web", "serve the page; --set-password opens it to other computers"),
    "update": ("update", "install the bundles that a signed repository releases to this node"),
    "install-bundle": ("install_bundle", "install a bundle from a file or folder; --undo goes back to the one before"),
    "support": ("checking.support", "collect the facts for a bug report, without secrets and without sound"),
}
EXIT_ANOMALY = 3
DEFAULT_CONFIG = Path("/etc/stethos/monitor.yaml")


def _replay(arguments: argparse.Namespace) -> int:
    from monitor.bundle import load_bundle
    from monitor.bundle.budget import DEVICE, WORKSTATION
    from monitor.cli.progress import logs_above_progress
    from monitor.cli.replay.files import Replay, replay
    from monitor.config import IdleConfig, load_config
    from monitor.json_lines import JsonLines
    from monitor.monitor import EPOCH

    if arguments.jobs is not None and (arguments.publish or arguments.clips or arguments.speed == "1"):
        raise UsageError("--jobs cannot be used with --publish, --clips or --speed 1: these replay one file at a time")
    config = load_config(arguments.config, os.environ)
    named: str | None = arguments.machine
    if arguments.model is not None:
        bundle = load_bundle(arguments.model, budget=WORKSTATION if arguments.large_bundle else DEVICE)
    else:
        from monitor.daemon.bundles.adaptations import in_use

        named = configured_machine(named, config, instead=", or --model DIR given")
        bundle = in_use(config.state_dir, named, load_bundle(config.machines[named].bundle))
    if bundle.is_base:
        raise BundleError(f"{bundle.id} is a base bundle, which judges nothing: learn a machine with it first (monitor learn)")
    machine = named or bundle.manifest.name
    failures: list[StethosError] = []
    with ExitStack() as stack:
        publisher = None
        if arguments.publish:
            if config.mqtt is None:
                raise UsageError("--publish needs a broker, but mqtt is null in the configuration")
            from monitor.mqtt.publisher import MqttPublisher

            publisher = stack.enter_context(MqttPublisher(config.mqtt, node=config.node))
        job = Replay(
            bundle=bundle,
            node=config.node,
            machine=machine,
            started_at=arguments.started_at or EPOCH,
            clock_synced=arguments.started_at is not None,
            channel=arguments.channel,
            real_time=arguments.speed == "1",
            show_scores=arguments.scores,
            lines=JsonLines(sys.stdout),
            idle=config.machines[named].idle if named in config.machines else IdleConfig(),
            make_recorder=_recorders(arguments.clips, config, bundle, publisher, failures),
            make_publisher=None if publisher is None else partial(_state_publisher, publisher, config, machine, bundle),
        )
        stack.enter_context(logs_above_progress())
        if arguments.jobs is None:
            outcome = replay(arguments.replay, job)
        else:
            from monitor.cli.replay.side_by_side import replay_side_by_side

            outcome = replay_side_by_side(arguments.replay, job, n_processes=arguments.jobs)
    if outcome.n_failed or failures:
        return 1
    return EXIT_ANOMALY if arguments.fail_on_anomaly and outcome.n_anomalous else 0


def _state_publisher(
    publisher: "MqttPublisher", config: "Config", machine: str, bundle: "Bundle", timeline: "EventClock"
) -> "StatePublisher":
    from monitor.daemon.alarm import Alarm
    from monitor.daemon.assembly import make_drift
    from monitor.daemon.state_publisher import StatePublisher

    return StatePublisher(
        publisher,
        machine=machine,
        threshold=bundle.manifest.calibration.threshold,
        timeline=timeline,
        alarm=Alarm(from_severity=config.alarm.from_),
        drift=make_drift(bundle),
    )


def _recorders(
    folder: Path | None,
    config: "Config",
    bundle: "Bundle",
    publisher: "MqttPublisher | None",
    failures: list[StethosError],
) -> "Callable[[], ClipRecorder] | None":
    """A factory that makes a clip recorder for each file; None if neither clips nor pictures are wanted.

    Errors in writing clips are added to `failures` and do not stop the events.
    """
    if folder is None and publisher is None:
        return None
    if folder is not None and config.private:
        raise UsageError("--clips cannot be used with private: true in the configuration")
    from monitor.clips.service import ClipService
    from monitor.clips.store import ClipStore
    from monitor.daemon.assembly import make_clip_recorder

    store = None if folder is None else ClipStore(folder, max_bytes=round(config.clips.max_mb * 1e6))
    if store is not None:
        store.check()

    def run(job: "Job") -> None:
        try:
            job()
        except StethosError as error:
            failures.append(error)
            log.error("monitor: error: %s", error)

    def present(machine: str, _: str, png: bytes) -> None:
        assert publisher is not None
        publisher.publish_retained(f"{machine}/snapshot", png)

    shown = None if publisher is None else present
    service = ClipService(store, run=run, present=shown, private=config.private)
    return lambda: make_clip_recorder(bundle, service, config.clips)


def _daemon(arguments: argparse.Namespace) -> int:
    """Run the daemon or, with `--replay`, a replay."""
    if arguments.replay is not None:
        return _replay(arguments)
    flags = ("scores", "publish", "large_bundle", "fail_on_anomaly")
    for name in ("model", "machine", "channel", "speed", "started_at", "clips", "jobs", *flags):
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} needs --replay FILE")
    from monitor.audio.capture_process import CaptureLauncher

    launcher = CaptureLauncher(ahead=True)  # it starts while we import the rest, NumPy and LiteRT included
    try:
        from monitor.daemon.daemon import run_daemon

        return run_daemon(arguments.config, os.environ, launcher)
    finally:
        launcher.close()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; `run` is the function that runs the command. SystemExit after --help or an error."""
    return make_parser(argv).parse_args(argv)


def make_parser(whole: Container[str] = COMMANDS) -> Parser:
    """The parser, with the arguments of the commands in `whole`; the modules of the others are not imported."""
    parser = Parser(
        prog="monitor",
        description="Monitor the sound of machines and report over MQTT when it changes. Without a command: run the daemon.",
        epilog="Exit status: 0 done, 1 failed while running, 2 usage, 3 anomaly found (--fail-on-anomaly, status), "
        "4 state unknown (status), 78 configuration or bundle refused, 130 interrupted. "
        "For example: sudo monitor setup; monitor --replay fan.wav --model models/my-fan",
    )
    parser.add_argument("--version", action="version", version=f"stethos {__version__}")
    _add_config(parser, DEFAULT_CONFIG if os.access(DEFAULT_CONFIG, os.F_OK) else None)
    parser.set_defaults(run=_daemon)
    group = parser.add_argument_group("replay", "run recordings through the pipeline; one JSON line per event and per file")
    group.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="WAV, FLAC, Ogg, MP3, any rate")
    group.add_argument("--model", type=Path, metavar="DIR", help="the bundle, instead of a configured machine")
    group.add_argument("--machine", type=_slug, metavar="ID", help="a configured machine, or the name to use")
    group.add_argument("--channel", type=channel_number, metavar="N", help="use channel N, from 1 (default: the mean of all)")
    group.add_argument("--speed", choices=("max", "1"), help="as fast as possible (max, the default), or in real time")
    group.add_argument(
        "--started-at", type=moment, metavar="UTC", help="when the recording began (default: 1970-01-01T00:00:00Z)"
    )
    group.add_argument("--scores", action="store_true", help="write one more JSON line per segment")
    group.add_argument("--clips", type=Path, metavar="DIR", help="write sound and a picture of every event to DIR")
    group.add_argument("--publish", action="store_true", help="also send events to the configured MQTT broker")
    group.add_argument("--large-bundle", action="store_true", help="accept a bundle (--model) of up to 2 GB, for study")
    group.add_argument(
        "--jobs", type=number_of(1, 256), metavar="N", help="replay N files at a time, on as many cores (default: one)"
    )
    group.add_argument("--fail-on-anomaly", action="store_true", help="exit with 3 when an anomaly was found")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        _add_config(command, argparse.SUPPRESS)
        if name in whole:
            module = import_module(f"monitor.cli.{module_name}")
            command.epilog = module.EPILOG
            if hasattr(module, "add_arguments"):
                module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _add_config(parser: argparse.ArgumentParser, default: Path | str | None) -> None:
    """Add `--config FILE`, which may precede or follow a command."""
    text = f"configuration, which explains every key (default: {DEFAULT_CONFIG} if it exists)"
    parser.add_argument("--config", type=Path, metavar="FILE", default=default, help=text)


def _slug(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", text):
        raise argparse.ArgumentTypeError(f"must consist of a-z, 0-9, _ and -, got {text!r}")
    return text
