"""What a network costs that was not trained on the machine: AUC after learning as `monitor learn` does.

    python -m benchmarks.base_network [--sets rail,bldc,compressor,synthetic] [--draws 10]

Every draw learns half of the normal recordings of a set at random, and scores the others and the faults. The networks are that of
`models/base`, one trained on a synthetic fan alone with the same front end, and that of `models/demo-fan` (64 bands). The first
figure is the AUC of the score, the one in brackets that of the reconstruction error alone, the only part that uses the network.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.decide_data import Set, learn, sets
from monitor.arrays import F64
from monitor.bundle import load_bundle
from monitor.bundle.detector import make_detector
from monitor.learning.measured import RecordingSums, scores
from monitor.scoring.components import Detector
from train.recipes.recipe import Recipe, load_recipe

MODELS = Path(__file__).parents[1] / "models"
NAMES = "rail,bldc,compressor,synthetic"


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--sets", default=NAMES)
    parser.add_argument("--draws", type=int, default=10)
    arguments = parser.parse_args()
    default = load_recipe("default")
    narrow = default.model_copy(update={"front_end": load_recipe("mimii-mel").front_end})
    networks: dict[str, tuple[Recipe, bytes | None]] = {
        "base": (default, load_bundle(MODELS / "base").model),
        "synthetic fan": (default, None),
        "demo-fan": (narrow, load_bundle(MODELS / "demo-fan").model),
    }
    found: dict[str, list[str]] = {}
    for recipe, network in networks.values():
        for one in sets(arguments.sets.split(","), recipe, network=network):
            whole, error = np.mean([_aucs(one, seed, recipe) for seed in range(arguments.draws)], axis=0)
            found.setdefault(one.name, []).append(f"{whole:.3f} ({error:.3f})")
    rows = [[name, *cells] for name, cells in found.items()]
    publish([Table("AUC of the score (of the reconstruction error)", ["set", *networks], rows)], arguments.json)


def _aucs(one: Set, seed: int, recipe: Recipe) -> tuple[float, float]:
    """The AUC of the score, and that of the reconstruction error."""
    n = len(one.normal)
    learned = np.sort(np.random.default_rng(seed).permutation(n)[: max(6, n // 2)])
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    detector = learn(blank, [one.normal[number] for number in learned], recipe).detector
    unseen = [recording for number, recording in enumerate(one.normal) if number not in set(learned)]
    error = Detector([blank.components[0]])
    return (
        _auc(*(scores(detector, [recording.whole() for recording in part]) for part in (unseen, one.anomaly))),
        _auc(*(_errors(error, blank, part) for part in (unseen, one.anomaly))),
    )


def _errors(error: Detector, blank: Detector, recordings: Sequence[RecordingSums]) -> F64:
    return scores(error, [blank.parts(recording.whole())[0] for recording in recordings])


def _auc(normal: F64, anomaly: F64) -> float:
    labels = [0] * len(normal) + [1] * len(anomaly)
    return float(roc_auc_score(labels, np.concatenate((normal, anomaly))))


if __name__ == "__main__":
    main()
