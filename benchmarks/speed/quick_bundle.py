"""Recipes with few epochs, and bundles of them: speed does not depend on how well a network is trained."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml

from monitor.arrays import F32
from train.recipes.recipe import RECIPES

ROOT = Path(__file__).parents[2]
CLIP_S = 10


def write_recipe(name: str, path: Path, *, epochs: int | None = 1) -> Path:
    """Write a recipe with this number of epochs, or with its own."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    if epochs is not None:
        recipe["training"]["epochs"] = epochs
    path.write_text(yaml.safe_dump(recipe))
    return path


def train_bundle(name: str, samples: F32, folder: Path, *, rate_hz: int) -> Path:
    """Train a bundle of a recipe for one epoch on samples (n,), whole clips of 10 s."""
    (folder / "learned").mkdir()
    for i, part in enumerate(np.split(samples, len(samples) // (CLIP_S * rate_hz))):
        soundfile.write(folder / "learned" / f"{i:03d}.wav", part, rate_hz)
    recipe = write_recipe(name, folder / "recipe.yaml")
    words = [str(folder / "learned"), "--recipe", str(recipe), "--out", str(folder / name)]
    subprocess.run([sys.executable, "-m", "train.cli.main", "fit", *words], check=True, capture_output=True, cwd=ROOT)
    return folder / name
