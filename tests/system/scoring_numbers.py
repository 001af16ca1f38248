"""Frames and scores of some sound, computed here and written to a file, so that two computers can be compared.

    python -m tests.system.scoring_numbers SOUND.npy OUT.npz

The sound is mono, float32, and taken as being at each bundle's rate. The base bundles have networks and components as the recipes
`default` and `wide` make them.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the commands do, before NumPy is imported

import sys
from pathlib import Path

import numpy as np

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.scoring.frames import stream_frames
from monitor.scoring.scorer import score_stream

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = {"plain": "demo-fan", "default": "base", "wide": "base-wide"}


def numbers(sound: F32) -> dict[str, F32 | F64]:
    """By bundle: frames (n_frames, n_bands), dB, and scores (n_ticks,), NaN where a tick has none."""
    found: dict[str, F32 | F64] = {}
    for name, folder in BUNDLES.items():
        bundle = load_bundle(MODELS / folder)
        spec = bundle.manifest.scorer_spec
        frames = stream_frames([Block(0, sound)], spec.front_end, tick_frames=spec.tick_frames)
        found[f"{name} frames"] = np.concatenate(list(frames))
        scores = [tick.score for tick in score_stream(bundle.scorer(), [Block(0, sound)])]
        found[f"{name} scores"] = np.array([np.nan if score is None else score for score in scores])
    return found


if __name__ == "__main__":
    found = numbers(np.load(sys.argv[1]))
    np.savez(sys.argv[2], allow_pickle=False, **found)
