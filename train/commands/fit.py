"""`train fit`: from a folder of recordings to a bundle."""

import argparse
from pathlib import Path

from train.commands.arguments import Commands, count, positive, seed


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    fit = commands.add_parser(
        "fit",
        help="train a recipe on a folder of recordings and write a bundle",
        description="Train on DATASET/normal/ (recordings of any length, rate and format), hold some recordings out, "
        "export an int8 model and set its threshold on the held-out ones.",
    )
    fit.add_argument("dataset", type=Path, metavar="DATASET", help="folder that holds normal/")
    fit.add_argument("--recipe", required=True, metavar="NAME", help="a shipped recipe (mimii-mel, dcase) or a YAML file")
    fit.add_argument("--out", type=Path, required=True, metavar="models/NAME", help="the bundle to write or replace")
    fit.add_argument("--seed", type=seed, default=0, help="of split, weights and order (default 0)")
    fit.add_argument("--sigma", type=positive, metavar="K", help="threshold = mean + K sigma (default: the recipe's)")
    fit.add_argument("--channel", type=count, metavar="N", help="use channel N, from 1 (default: the mean of all)")
    fit.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
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
