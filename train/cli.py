"""The `train` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor import __version__
from monitor.core.errors import StethosError, UsageError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status (0, 1 failed, 2 usage, 78 recipe or bundle refused)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except StethosError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"train: error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


def _fit(arguments: argparse.Namespace) -> None:
    from train.build import fit
    from train.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    k = arguments.sigma if arguments.sigma is not None else recipe.calibration.k
    manifest = fit(
        arguments.dataset,
        recipe,
        arguments.out,
        recipe_name=Path(arguments.recipe).stem,
        seed=arguments.seed,
        k=k,
        channel=arguments.channel,
    )
    calibration = manifest.calibration
    print(
        f"wrote {arguments.out}: threshold {calibration.threshold:.4g} = mean + {k:g} sigma of {calibration.n_segments} "
        f"segments ({60 * calibration.hours:.1f} min held out)\nnext: monitor --replay FILE --model {arguments.out}"
    )


def _import_model(arguments: argparse.Namespace) -> None:
    from train.import_model import import_model
    from train.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    manifest = import_model(
        arguments.model,
        recipe,
        arguments.out,
        recipe_name=Path(arguments.recipe).stem,
        threshold=arguments.threshold,
        dataset=arguments.calibrate_on,
        k=arguments.sigma if arguments.sigma is not None else recipe.calibration.k,
    )
    print(
        f"wrote {arguments.out}: threshold {manifest.calibration.threshold:.4g}, golden score {manifest.golden.score:.6g}\n"
        f"next: monitor --replay FILE --model {arguments.out}"
    )


def _synth(arguments: argparse.Namespace) -> None:
    from train.synth import Fan, Growth, Scene
    from train.synth.write import FORMATS, write_scene

    if arguments.bangs_per_hour > 120:
        raise UsageError(f"--bangs-per-hour must be in 0..120, got {arguments.bangs_per_hour:g}")
    fan = Fan(arguments.seed, sample_rate_hz=arguments.sample_rate)
    growth = Growth(
        start_s=arguments.fault_at, grow_s=arguments.grow, repaired_s=arguments.repaired_at, severity=arguments.severity
    )
    single = arguments.out.suffix in FORMATS
    folder = arguments.out / ("normal" if arguments.fault is None else "anomaly")
    for number in range(1 if single else arguments.recordings):
        take = arguments.take + number
        path = arguments.out if single else folder / f"{take:04d}.{arguments.format}"
        scene = Scene(fan=fan, take=take, fault=arguments.fault, growth=growth, bangs_per_hour=arguments.bangs_per_hour)
        write_scene(path, scene, seconds=arguments.seconds)
    print(f"wrote {arguments.out if single else folder}")
    if not single and arguments.fault is None:
        print(f"next: train fit {arguments.out} --recipe mimii-mel --out models/NAME")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train", description="From recordings of normal sound to a bundle for `monitor`.")
    parser.add_argument("--version", action="version", version=f"stethos {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_import_model(commands)
    _add_synth(commands)
    return parser


def _add_fit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fit = commands.add_parser(
        "fit",
        help="train a recipe on a folder of recordings and write a bundle",
        description="Train on DATASET/normal/ (recordings of any length, rate and format), hold some recordings out, "
        "export an int8 model and set its threshold on the held-out ones.",
    )
    fit.add_argument("dataset", type=Path, metavar="DATASET", help="folder that holds normal/")
    fit.add_argument("--recipe", required=True, metavar="NAME", help="a shipped recipe (mimii-mel, dcase) or a YAML file")
    fit.add_argument("--out", type=Path, required=True, metavar="models/NAME", help="the bundle to write or replace")
    fit.add_argument("--seed", type=int, default=0, help="of split, weights and order (default 0)")
    fit.add_argument("--sigma", type=_positive, metavar="K", help="threshold = mean + K sigma (default: the recipe's)")
    fit.add_argument("--channel", type=int, metavar="N", help="use channel N, from 1 (default: the mean of all)")
    fit.set_defaults(run=_fit)


def _add_import_model(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    imported = commands.add_parser(
        "import-model",
        help="make a bundle of a TFLite model trained elsewhere",
        description="Write a bundle around an autoencoder (int8 or float32) whose front end is a recipe's.",
    )
    imported.add_argument("model", type=Path, metavar="MODEL.tflite")
    imported.add_argument("--recipe", required=True, metavar="NAME", help="whose front end, window and error the model expects")
    imported.add_argument("--out", type=Path, required=True, metavar="models/NAME", help="the bundle to write or replace")
    threshold = imported.add_mutually_exclusive_group(required=True)
    threshold.add_argument("--threshold", type=_positive, metavar="SCORE", help="a score from which on a segment is abnormal")
    threshold.add_argument("--calibrate-on", type=Path, metavar="DATASET", help="set it on DATASET/normal/")
    imported.add_argument("--sigma", type=_positive, metavar="K", help="threshold = mean + K sigma (default: the recipe's)")
    imported.set_defaults(run=_import_model)


def _add_synth(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    synth = commands.add_parser(
        "synth",
        help="make the sound of a fan, with or without a fault that grows",
        description="Write one recording (OUT ends in .flac or .wav) or a data set (OUT/normal or OUT/anomaly).",
    )
    synth.add_argument("out", type=Path, metavar="OUT")
    synth.add_argument("--seconds", type=_positive, default=60.0, help="length of a recording (default 60)")
    synth.add_argument("--recordings", type=int, default=10, metavar="N", help="in a data set (default 10)")
    synth.add_argument("--seed", type=int, default=0, help="which fan in which room (default 0)")
    synth.add_argument("--take", type=int, default=0, metavar="N", help="which (first) recording of it (default 0)")
    synth.add_argument("--sample-rate", type=int, default=16000, metavar="HZ")
    synth.add_argument("--format", choices=("flac", "wav"), default="flac", help="of a data set (default flac)")
    synth.add_argument("--bangs-per-hour", type=float, default=0.0, metavar="N", help="next door, at least 31 s apart")
    synth.add_argument("--fault", choices=("bearing", "imbalance", "rubbing", "rattle", "blade"))
    synth.add_argument("--fault-at", type=float, default=0.0, metavar="S", help="when it begins (default 0)")
    synth.add_argument("--grow", type=float, default=0.0, metavar="S", help="how long it grows (default 0)")
    synth.add_argument("--repaired-at", type=float, default=float("inf"), metavar="S", help="when it is gone again")
    synth.add_argument("--severity", type=_positive, default=1.0, help="of the grown fault (default 1)")
    synth.set_defaults(run=_synth)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
