"""`train synth`: the sound of a made machine."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from monitor.errors import UsageError
from train.cli.arguments import Commands, count, not_negative, positive, seed

_RECORDINGS, _FORMAT = 10, "flac"  # of a data set
_GROWTH = {"fault_at": "start_s", "grow": "grow_s", "repaired_at": "repaired_s", "severity": "severity"}  # by option


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    synth = commands.add_parser(
        "synth",
        help="make the sound of a machine, with or without a fault that grows",
        description="Write one recording (OUT ends in .flac or .wav) or a data set (OUT/normal or OUT/anomaly).",
    )
    synth.add_argument("out", type=Path, metavar="OUT")
    synth.add_argument("--machine", choices=("fan", "pump", "valve", "gearbox"), default="fan", help="what runs (default fan)")
    synth.add_argument("--seconds", type=positive, default=60.0, help="length of a recording (default 60)")
    synth.add_argument("--recordings", type=count, metavar="N", help=f"in a data set (default {_RECORDINGS})")
    synth.add_argument("--seed", type=seed, default=0, help="which individual in which room (default 0)")
    synth.add_argument("--take", type=seed, default=0, metavar="N", help="which (first) recording of it (default 0)")
    synth.add_argument("--sample-rate", type=int, default=16000, metavar="HZ")
    synth.add_argument("--format", choices=("flac", "wav"), help=f"of a data set (default {_FORMAT})")
    synth.add_argument("--bangs-per-hour", type=not_negative, default=0.0, metavar="N", help="next door, at least 31 s apart")
    synth.add_argument("--fault", choices=("bearing", "imbalance", "rubbing", "rattle", "blade", "leak", "cavitation"))
    synth.add_argument("--fault-at", type=not_negative, metavar="S", help="when it begins (default 0)")
    synth.add_argument("--grow", type=not_negative, metavar="S", help="how long it grows (default 0)")
    synth.add_argument("--repaired-at", type=positive, metavar="S", help="when it is gone again (default never)")
    synth.add_argument("--severity", type=positive, help="of the grown fault (default 1)")
    synth.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from train.datasets.files import SUFFIXES
    from train.synth import MACHINES, Growth, Scene
    from train.synth.write import write_scene

    if not 8_000 <= arguments.sample_rate <= 192_000:
        raise UsageError(f"--sample-rate must be in 8000..192000, got {arguments.sample_rate}")
    if arguments.seconds * arguments.sample_rate < 1:
        raise UsageError(f"--seconds must make at least one sample, got {arguments.seconds:g}")
    if arguments.bangs_per_hour > 120:
        raise UsageError(f"--bangs-per-hour must be in 0..120, got {arguments.bangs_per_hour:g}")
    single = arguments.out.suffix.lower() in SUFFIXES  # of sound that cannot be written, too: it is no folder's
    if single:
        _left_out(arguments, ("recordings", "format"), f"goes with a data set, got one recording, {arguments.out}")
    growth = Growth(**_growth(arguments))
    machine = MACHINES[arguments.machine](arguments.seed, sample_rate_hz=arguments.sample_rate)
    folder = arguments.out / ("normal" if arguments.fault is None else "anomaly")
    for number in range(1 if single else arguments.recordings or _RECORDINGS):
        take = arguments.take + number
        path = arguments.out if single else folder / f"{take:04d}.{arguments.format or _FORMAT}"
        scene = Scene(machine=machine, take=take, fault=arguments.fault, growth=growth, bangs_per_hour=arguments.bangs_per_hour)
        write_scene(path, scene, seconds=arguments.seconds)
    print(f"wrote {arguments.out if single else folder}")
    if not single and arguments.fault is None:
        print(f"next: train fit {arguments.out} --recipe default --out models/NAME")


def _growth(arguments: argparse.Namespace) -> dict[str, float]:
    """What was said of the fault's growth; UsageError where no fault would be heard."""
    if arguments.fault is None:
        _left_out(arguments, _GROWTH, "goes with --fault, got none")
    given = {field: value for option, field in _GROWTH.items() if (value := getattr(arguments, option)) is not None}
    start_s, end_s = given.get("start_s", 0.0), min(arguments.seconds, given.get("repaired_s", arguments.seconds))
    if start_s >= end_s:
        raise UsageError(f"--fault-at must be below --seconds and --repaired-at ({end_s:g}), got {start_s:g}")
    return given


def _left_out(arguments: argparse.Namespace, options: Iterable[str], why: str) -> None:
    """UsageError for the first of these options that was given."""
    for option in options:
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')} {why}")
