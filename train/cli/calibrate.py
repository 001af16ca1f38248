"""`train calibrate`: compute new thresholds for a bundle, from other normal sound or by another method."""

import argparse
import sys
from pathlib import Path

from monitor.errors import UsageError
from train.cli.arguments import Commands, add_dataset_options, bundle_folder, dataset_of, method_number
from train.cli.words import amount, levels, promise
from train.recipes.method import METHODS, Method, MethodName

_TAKES: dict[
    str, tuple[str, tuple[MethodName, ...], MethodName]
] = {  # option: (parameter, methods that use it, method that it implies)
    "sigma": ("k", ("mean+k*sigma",), "mean+k*sigma"),
    "percentile": ("percentile", ("percentile",), "percentile"),
    "false_alarm": ("false_alarm", ("conformal", "gamma"), "conformal"),
    "per_week": ("events_per_week", ("pot",), "pot"),
}


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    calibrate = commands.add_parser(
        "calibrate",
        help="compute new thresholds for a bundle from normal sound",
        description="Score the normal sound of DATASET with BUNDLE and write the bundle with thresholds computed from these "
        "scores. The model is not changed. On the data set that the bundle was trained on, its held-out part or its cross-fitted "
        "scores are used. See docs/calibration.md.",
    )
    calibrate.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle to calibrate")
    calibrate.add_argument("--on", type=Path, required=True, metavar="DATASET", help="folder of normal recordings")
    add_dataset_options(calibrate, split="use only held_out.txt (default: the bundle's own lists, on the data it was trained on)")
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
        help="conformal: chance that a block of normal sound has a segment above; gamma: that a segment is above (0.02)",
    )
    calibrate.add_argument(
        "--per-week", type=method_number("events_per_week"), metavar="R", help="pot: target rate of false events per week (1)"
    )
    calibrate.add_argument(
        "--out", type=bundle_folder, metavar="models/NAME", help="the bundle to write or replace (default: BUNDLE)"
    )
    calibrate.add_argument("--verbose", action="store_true", help="print all evidence for the false alarm rates")
    calibrate.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    method = _method(arguments)

    from train.calibration.recalibrate import recalibrate

    out = arguments.out if arguments.out is not None else arguments.bundle
    data = dataset_of(arguments.on, arguments)
    calibration, note = recalibrate(arguments.bundle, data, out, method=method, split=arguments.split, channel=arguments.channel)
    if note is not None:
        print(f"train: {note}", file=sys.stderr)
    if arguments.verbose:
        print(f"{calibration.statement}\n{levels(calibration)}")
    print(
        f"calibrated: {out} on {amount(calibration.n_recordings, calibration.hours)} of normal sound\n"
        f"{promise(calibration)}\n"
        f"next: monitor --replay FILE --model {out}"
    )


def _method(arguments: argparse.Namespace) -> Method:
    """The method and its parameters; UsageError where an option does not belong to the method."""
    given = {option: value for option in _TAKES if (value := getattr(arguments, option)) is not None}
    implied: tuple[MethodName, ...] = (*(_TAKES[option][2] for option in given), "default")
    name: MethodName = arguments.method or implied[0]
    for option in given:
        methods = _TAKES[option][1]
        if name not in methods:
            raise UsageError(f"--{option.replace('_', '-')} requires the method {' or '.join(methods)}, got {name}")
    return Method(name=name, **{_TAKES[option][0]: value for option, value in given.items()})
