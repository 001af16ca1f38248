"""`train import-model`: a bundle around a TFLite model trained elsewhere."""

import argparse
from pathlib import Path

from monitor.errors import UsageError
from train.cli.arguments import Commands, add_dataset_options, bundle_folder, dataset_of, method_number, positive
from train.cli.words import levels


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    imported = commands.add_parser(
        "import-model",
        help="make a bundle of a TFLite model trained elsewhere",
        description="Write a bundle around an autoencoder (int8 or float32) that uses the front end of a recipe.",
    )
    imported.add_argument("model", type=Path, metavar="MODEL.tflite")
    imported.add_argument("--recipe", required=True, metavar="NAME", help="recipe with the model's front end, window and error")
    imported.add_argument(
        "--out", type=bundle_folder, required=True, metavar="models/NAME", help="the bundle to write or replace"
    )
    threshold = imported.add_mutually_exclusive_group(required=True)
    threshold.add_argument("--threshold", type=positive, metavar="SCORE", help="score from which a segment is abnormal")
    threshold.add_argument("--calibrate-on", type=Path, metavar="DATASET", help="compute it from the normal sound of DATASET")
    add_dataset_options(imported, split="use only held_out.txt (default: all normal sound)")
    imported.add_argument(
        "--sigma", type=method_number("k"), metavar="K", help="threshold = mean + K sigma (default: the recipe's)"
    )
    imported.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    of_sound = [name for name in ("sigma", "layout", "machine", "channel", "split") if getattr(arguments, name) is not None]
    if arguments.threshold is not None and of_sound:
        raise UsageError(f"--{of_sound[0]} requires --calibrate-on, got --threshold")

    from train.fitting.import_model import NormalScoresOfImport, import_model
    from train.recipes.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    if recipe.rate == "recordings":
        raise UsageError(f"--recipe must have a fixed rate, that of the model's training; {arguments.recipe} has none")
    manifest = import_model(
        arguments.model,
        recipe,
        arguments.out,
        recipe_name=Path(arguments.recipe).stem,
        threshold=arguments.threshold,
        normal=None
        if arguments.calibrate_on is None
        else NormalScoresOfImport(
            dataset_of(arguments.calibrate_on, arguments), channel=arguments.channel, split=arguments.split
        ),
        method=recipe.method(k=arguments.sigma),
    )
    print(f"wrote {arguments.out}: {levels(manifest.calibration)}\nnext: monitor --replay FILE --model {arguments.out}")
