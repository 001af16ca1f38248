"""Train a recipe on the frames of clips as `train fit` does, and score other clips by each component and by their fusion."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.sounds.frame_ticks import frame_ticks
from monitor.arrays import F32, F64
from monitor.bundle.detector import make_detector
from monitor.bundle.load import make_scorer
from monitor.learning.methods import equal_blocks
from monitor.scoring.components import Detector
from monitor.scoring.scorer import Scorer
from train.calibration.cross_fitting import error_scale, fit_in_folds
from train.recipes.recipe import Recipe

FUSED = "fused"
N_FOLDS = 5  # contiguous in time, as in `train fit`


@dataclass(frozen=True)
class Judge:
    """A trained model, its detector, and the scores (n,) of the learned clips by statistics that were fitted without them.

    If the detector has no statistics, there are no such scores.
    """

    scorer: Scorer
    detector: Detector
    unknown: F64

    def scores(self, clips: Sequence[F32]) -> dict[str, F64]:
        """Whole-file scores (n,) of clips (m, n_bands), dB: fused if there are several components, and by component."""
        names = [component.name for component in self.detector.components]
        sums = clip_sums(self.scorer, clips)
        found = np.array([self.detector.component_scores(one) for one in sums], np.float64)
        fused = {FUSED: np.array([self.detector.score(one) for one in sums], np.float64)} if len(names) > 1 else {}
        return fused | dict(zip(names, found.T, strict=True))


def clip_sums(scorer: Scorer, clips: Sequence[F32]) -> F64:
    """The detector's sums (n, k) over each clip, computed with the pipeline's own windows, quantisation and error."""
    sums = []
    for clip in clips:
        scorer.reset()
        for tick in frame_ticks(clip, tick_frames=scorer.spec.tick_frames):
            scorer.score_tick(tick)
        sums.append(scorer.file_sums())
    return np.array(sums, np.float64)


def judge(recipe: Recipe, model: bytes, clips: Sequence[F32] = (), *, error_growth: float = 1.0) -> Judge:
    """A model with the recipe's detector, whose statistics are fitted to clips in chronological order.

    `error_growth` is the factor by which the network's error grows on clips that it was not trained on.
    """
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    scorer = make_scorer(model, spec=recipe.scorer_spec, layout=recipe.layout, detector=blank)
    if len(blank.components) == 1:
        return Judge(scorer, blank, np.empty(0))
    folds = in_time(clip_sums(scorer, clips) * error_scale(blank, error_growth))
    found, fitted = fit_in_folds(recipe, blank, folds)
    detectors = [fit.detector(blank) for fit in found.without_fold]
    unknown = np.array([one.score(row) for one, fold in zip(detectors, folds, strict=True) for row in fold], np.float64)
    return Judge(scorer, fitted.detector(blank), unknown)


def in_time(rows: F64) -> list[F64]:
    """Rows (n, k) in contiguous folds."""
    return [rows[part] for part in equal_blocks(len(rows), n_blocks=min(N_FOLDS, len(rows)))]


def train_judges(recipe: Recipe, clips: Sequence[F32], *, seed: int) -> Mapping[str, Judge]:
    """Train on normal clips, in chronological order, and return a judge for the float32 model and one for the int8 model.

    All clips are used for training, as in `train fit`. A recipe with early stopping monitors the last fifth. The growth of
    the error on unseen clips is measured as `train fit` does, with a second network, trained without the last fifth.
    """
    from train.features.frames import WindowSet
    from train.networks.export import to_tflite
    from train.networks.networks import device_network
    from train.networks.training import fit_network, representative_windows

    def window_set(part: Sequence[F32]) -> WindowSet:
        return WindowSet(list(part), n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)

    last = len(clips) - max(1, len(clips) // N_FOLDS)
    has_statistics = len(recipe.detector.components) > 1
    windows = window_set(clips)
    validation = window_set(clips[last:] if has_statistics or recipe.training.early_stopping is not None else ())
    growth = 1.0
    with contextlib.redirect_stdout(io.StringIO()):
        trained = fit_network(recipe, windows, validation, seed=seed)
        network = device_network(trained.model)
        if has_statistics:
            without_last = fit_network(recipe, window_set(clips[:last]), validation, seed=seed)
            growth = max(1.0, without_last.history["val_loss"][-1] / trained.history["val_loss"][-1])
    models = {
        "float": to_tflite(network, representative=None),
        "int8": to_tflite(network, representative=representative_windows(recipe, windows)),
    }
    return {kind: judge(recipe, content, clips, error_growth=growth) for kind, content in models.items()}


def row_label(recipe: str, column: str | None = None) -> str:
    """How a table names a recipe, or one of the columns of its scores."""
    return f"`{recipe}`" + ("" if column is None else f", {column}" if column == FUSED else f", {column} only")


def auc(normal: F64, anomaly: F64) -> float:
    """The area under the ROC curve."""
    return aucs(normal, anomaly)[0]


def aucs(normal: F64, anomaly: F64) -> tuple[float, float]:
    """AUC, and standardised pAUC for false-positive rates of at most 0.1."""
    from sklearn.metrics import roc_auc_score

    labels, scores = np.repeat([0, 1], [len(normal), len(anomaly)]), np.concatenate((normal, anomaly))
    return float(roc_auc_score(labels, scores)), float(roc_auc_score(labels, scores, max_fpr=0.1))
