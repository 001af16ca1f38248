"""`train synth`: sound of a synthetic machine."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from monitor.errors import UsageError
from train.cli.arguments import Commands, count, not_negative, positive, seed
from train.cli.words import amount, bundle_for

_RECORDINGS, _SECONDS, _FORMAT = 28, 30.0, "flac"  # of a data set: as many as training works well with (docs/training.md)
_GROWTH = {"fault_at": "start_s", "grow": "grow_s", "repaired_at": "repaired_s", "severity": "severity"}  # by option


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    synth = commands.add_parser(
        "synth",
        help="generate sound of a synthetic machine, optionally with a growing fault",
        description="Write one recording (OUT ends in .flac or .wav) or a data set (OUT/normal or OUT/anomaly).",
    )
    synth.add_argument("out", type=Path, metavar="OUT")
    synth.add_argument(
        "--machine", choices=("fan", "pump", "valve", "gearbox"), default="fan", help="kind of machine (default fan)"
    )
    synth.add_argument("--seconds", type=positive, help=f"length of a recording (default 60, of a data set {_SECONDS:g})")
    synth.add_argument(
        "--recordings", type=count, metavar="N", help=f"number of recordings in a data set (default {_RECORDINGS})"
    )
    synth.add_argument("--seed", type=seed, default=0, help="individual machine and room (default 0)")
    synth.add_argument("--take", type=seed, default=0, metavar="N", help="number of the (first) recording (default 0)")
    synth.add_argument("--sample-rate", type=int, default=16000, metavar="HZ")
    synth.add_argument("--format", choices=("flac", "wav"), help=f"file format of a data set (default {_FORMAT})")
    synth.add_argument(
        "--bangs-per-hour", type=not_negative, default=0.0, metavar="N", help="bangs in the background, at least 31 s apart"
    )
    synth.add_argument("--fault", choices=("bearing", "imbalance", "rubbing", "rattle", "blade", "leak", "cavitation"))
    synth.add_argument("--fault-at", type=not_negative, metavar="S", help="start of the fault, s (default 0)")
    synth.add_argument("--grow", type=not_negative, metavar="S", help="duration of its growth, s (default 0)")
    synth.add_argument("--repaired-at", type=positive, metavar="S", help="end of the fault, s (default never)")
    synth.add_argument("--severity", type=positive, help="severity of the fully grown fault (default 1)")
    synth.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from train.datasets.files import SUFFIXES
    from train.synth import MACHINES, Growth, Scene
    from train.synth.write import write_scene

    if not 8_000 <= arguments.sample_rate <= 192_000:
        raise UsageError(f"--sample-rate must be in 8000..192000, got {arguments.sample_rate}")
    single = arguments.out.suffix.lower() in SUFFIXES  # also formats that cannot be written; they are not folder names
    arguments.seconds = arguments.seconds or (60.0 if single else _SECONDS)
    if arguments.seconds * arguments.sample_rate < 1:
        raise UsageError(f"--seconds must be at least one sample, got {arguments.seconds:g}")
    if arguments.bangs_per_hour > 120:
        raise UsageError(f"--bangs-per-hour must be in 0..120, got {arguments.bangs_per_hour:g}")
    if single:
        _refuse_given(arguments, ("recordings", "format"), f"requires a data set, got one recording, {arguments.out}")
    growth = Growth(**_growth(arguments))
    machine = MACHINES[arguments.machine](arguments.seed, sample_rate_hz=arguments.sample_rate)
    folder = arguments.out / ("normal" if arguments.fault is None else "anomaly")
    for number in range(1 if single else arguments.recordings or _RECORDINGS):
        take = arguments.take + number
        path = arguments.out if single else folder / f"{take:04d}.{arguments.format or _FORMAT}"
        scene = Scene(machine=machine, take=take, fault=arguments.fault, growth=growth, bangs_per_hour=arguments.bangs_per_hour)
        write_scene(path, scene, seconds=arguments.seconds)
    if single:
        print(f"wrote {arguments.out}")
        return
    n = arguments.recordings or _RECORDINGS
    print(f"wrote {folder}: {amount(n, n * arguments.seconds / 3600)}")
    if arguments.fault is None:
        print(f"next: train fit {arguments.out} --recipe default --out models/{bundle_for(arguments.out)}")


def _growth(arguments: argparse.Namespace) -> dict[str, float]:
    """The options of the fault's growth; UsageError where the fault would never sound."""
    if arguments.fault is None:
        _refuse_given(arguments, _GROWTH, "requires --fault")
    given = {field: value for option, field in _GROWTH.items() if (value := getattr(arguments, option)) is not None}
    start_s, end_s = given.get("start_s", 0.0), min(arguments.seconds, given.get("repaired_s", arguments.seconds))
    if start_s >= end_s:
        raise UsageError(f"--fault-at must be below --seconds and --repaired-at ({end_s:g}), got {start_s:g}")
    return given


def _refuse_given(arguments: argparse.Namespace, options: Iterable[str], why: str) -> None:
    """UsageError for the first of these options that was given."""
    for option in options:
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')} {why}")
