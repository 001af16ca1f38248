"""`train calibrate`: set a bundle's thresholds anew, on other normal sound or by another method."""

import argparse
import sys
from pathlib import Path

from monitor.errors import UsageError
from train.calibration.method import METHODS, Method, MethodName
from train.cli.arguments import Commands, add_dataset_options, bundle_folder, method_number

_TAKES: dict[
    str, tuple[str, tuple[MethodName, ...], MethodName]
] = {  # option: (parameter, the methods that take it, that which it means alone)
    "sigma": ("k", ("mean+k*sigma",), "mean+k*sigma"),
    "percentile": ("percentile", ("percentile",), "percentile"),
    "false_alarm": ("false_alarm", ("conformal", "gamma"), "conformal"),
    "per_week": ("events_per_week", ("pot",), "pot"),
}


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    calibrate = commands.add_parser(
        "calibrate",
        help="set a bundle's thresholds anew on normal sound",
        description="Score the normal sound of DATASET with BUNDLE and write the bundle again with thresholds set on these "
        "scores; the model stays as it is. Of the data set that it was trained on the held-out part is used, or the scores that "
        "it keeps of it. See docs/calibration.md.",
    )
    calibrate.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle to calibrate")
    calibrate.add_argument("--on", type=Path, required=True, metavar="DATASET", help="folder of normal recordings")
    add_dataset_options(calibrate, split="use held_out.txt alone (default: the bundle's own, on the data it was trained on)")
    calibrate.add_argument(
        "--method",
        choices=METHODS,
        help="default: a warning and an alarm level, predicted from the spread of this sound's scores",
    )
    calibrate.add_argument("--sigma", type=method_number("k"), metavar="K", help="mean+k*sigma: mean + K sigma of segments (4)")
    calibrate.add_argument(
        "--percentile", type=method_number("percentile"), metavar="P", help="percentile: of segments, below 100 (99.9)"
    )
    calibrate.add_argument(
        "--false-alarm",
        type=method_number("false_alarm"),
        metavar="A",
        help="conformal: chance that a block of normal sound holds a segment over; gamma: that a segment is (0.02)",
    )
    calibrate.add_argument(
        "--per-week", type=method_number("events_per_week"), metavar="R", help="pot: false events a week to aim at (1)"
    )
    calibrate.add_argument(
        "--out", type=bundle_folder, metavar="models/NAME", help="the bundle to write or replace (default: BUNDLE)"
    )
    calibrate.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    method = _method(arguments)

    from train.calibration.recalibrate import recalibrate
    from train.datasets import read_dataset

    out = arguments.out if arguments.out is not None else arguments.bundle
    data = read_dataset(arguments.on, layout=arguments.layout)
    calibration, note = recalibrate(arguments.bundle, data, out, method=method, split=arguments.split, channel=arguments.channel)
    if note is not None:
        print(f"train: {note}", file=sys.stderr)
    print(
        f"{calibration.statement}\n"
        f"wrote {out}: threshold {calibration.threshold:.4g}, for whole files {calibration.file_threshold:.4g} "
        f"({method.name}, {calibration.n_segments} segments)\nnext: monitor --replay FILE --model {out}"
    )


def _method(arguments: argparse.Namespace) -> Method:
    """The method and its numbers; UsageError where an option does not belong to it."""
    given = {option: value for option in _TAKES if (value := getattr(arguments, option)) is not None}
    implied: tuple[MethodName, ...] = (*(_TAKES[option][2] for option in given), "default")
    name: MethodName = arguments.method or implied[0]
    for option in given:
        methods = _TAKES[option][1]
        if name not in methods:
            raise UsageError(f"--{option.replace('_', '-')} goes with the method {' or '.join(methods)}, got {name}")
    return Method(name=name, **{_TAKES[option][0]: value for option, value in given.items()})
