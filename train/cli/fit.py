"""`train fit`: from a folder of recordings to a bundle."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from monitor.learning.report_text import count
from train.cli.arguments import Commands, add_dataset_options, bundle_folder, dataset_of, method_number, seed
from train.cli.words import ENOUGH, amount, levels, promise, warn
from train.recipes.method import METHODS


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    fit = commands.add_parser(
        "fit",
        help="train a recipe on a folder of recordings and write a bundle",
        description="Train on the normal recordings of a data set (any length, rate and format), export an int8 model, and "
        "compute its thresholds from sound that was held out or cross-fitted, as the recipe specifies.",
    )
    fit.add_argument("dataset", type=Path, metavar="DATASET", help="folder of recordings; see `train inspect`")
    fit.add_argument("--recipe", required=True, metavar="NAME", help="a shipped recipe (train/recipes/) or a YAML file")
    fit.add_argument("--out", type=bundle_folder, required=True, metavar="models/NAME", help="the bundle to write or replace")
    fit.add_argument("--as-published", action="store_true", help="follow the published procedure, with its leaks marked")
    fit.add_argument("--seed", type=seed, help="seed of split, weights and order (default: the recipe's, else 0)")
    fit.add_argument("--method", choices=METHODS, help="threshold method, see docs/calibration.md (default: the recipe's)")
    fit.add_argument("--sigma", type=method_number("k"), metavar="K", help="threshold = mean + K sigma (default: the recipe's)")
    add_dataset_options(fit, split="reuse these lists (a bundle's report/split; default: drawn by the seed)")
    fit.add_argument(
        "--base", action="store_true", help="recordings of many machines: write a base bundle, to learn a machine with"
    )
    fit.add_argument("--resume", action="store_true", help="resume an interrupted training")
    fit.add_argument("--verbose", action="store_true", help="print every epoch, and all evidence for the false alarm rates")
    fit.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from train.features.frames import seconds_by_reason
    from train.fitting.fit import Choices, fit
    from train.recipes.recipe import load_recipe

    if find_spec("tensorflow") is None:  # before hours of sound are read; importing it takes seconds
        raise ModuleNotFoundError(name="tensorflow")
    recipe = load_recipe(arguments.recipe, as_published=arguments.as_published)
    choices = Choices(
        recipe_name=Path(arguments.recipe).stem + (" as published" if arguments.as_published else ""),
        seed=recipe.training.seed if arguments.seed is None else arguments.seed,
        method=recipe.method(name=arguments.method, k=arguments.sigma),
        channel=arguments.channel,
        split=arguments.split,
        resume=arguments.resume,
        base=arguments.base,
        verbose=arguments.verbose,
    )
    found = fit(dataset_of(arguments.dataset, arguments), recipe, arguments.out, choices)
    if arguments.base:
        print(f"wrote {arguments.out}, a base bundle: it judges nothing until `monitor learn` has learned a machine with it")
        return
    if left_out := cast("dict[str, float]", found.manifest.provenance.metrics["left_out_s"]):
        warn(f"left out {seconds_by_reason(left_out)}, which the device would not score either")
    if not found.is_enough:
        warn(f"too little sound to find more than severe faults: record {ENOUGH}")
    calibration = found.manifest.calibration
    if arguments.verbose:
        print(f"{calibration.statement}\n{levels(calibration)}")
    sessions = f" from {count(found.n_sessions, 'session')}" if found.n_sessions > 1 else ""
    kept = f"; {found.n_kept} more are kept to test with" if found.n_kept else ""
    again = "record more, then run this command again"
    evaluate = f"train evaluate {arguments.out} {arguments.dataset} --out reports/{arguments.out.name}"
    print(
        f"learned: {arguments.out} from {amount(found.n_recordings, found.hours)} of normal sound{sessions}{kept}\n"
        f"{promise(calibration)}\n"
        f"next: {evaluate if found.is_enough else again}"
    )
