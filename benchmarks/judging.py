"""Train a recipe on clips' frames as `train fit` does, and score other clips by each component and fused."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.bundle.bundle import make_scorer
from monitor.bundle.components import make_detector
from monitor.core.arrays import F32, F64
from monitor.core.detector import Detector, fit_statistics
from monitor.core.scorer import Scorer
from train.recipe import Recipe

FUSED = "fused"
HELD_OUT_EVERY = 5  # of the clips to learn from: what a recipe holds out


@dataclass(frozen=True)
class Judge:
    """A trained model and its detector."""

    scorer: Scorer
    detector: Detector

    def scores(self, clips: Sequence[F32]) -> dict[str, F64]:
        """Whole-file scores (n,) of clips (m, n_bands), dB: of each component, and fused where there are several."""
        names = [component.name for component in self.detector.components]
        sums = clip_sums(self.scorer, clips)
        found = np.array([self.detector.component_scores(one) for one in sums], np.float64)
        fused = {FUSED: np.array([self.detector.score(one) for one in sums], np.float64)} if len(names) > 1 else {}
        return dict(zip(names, found.T, strict=True)) | fused


def clip_sums(scorer: Scorer, clips: Sequence[F32]) -> F64:
    """The detector's sums (n, k) over each clip, through the pipeline's own windows, quantisation and error."""
    sums = []
    for clip in clips:
        scorer.reset()
        scorer.push_frames(clip)
        sums.append(scorer.file_sums())
    return np.array(sums, np.float64)


def judge(recipe: Recipe, model: bytes, *, training: Sequence[F32] = (), held_out: Sequence[F32] = ()) -> Judge:
    """A model with the recipe's detector, its statistics fitted on clips."""
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    scorer = make_scorer(model, spec=recipe.scorer_spec, layout=recipe.layout, detector=blank)
    if len(blank.components) == 1:
        return Judge(scorer, blank)
    sums = [clip_sums(scorer, clips) for clips in (training, held_out)]
    fitted = fit_statistics(
        blank,
        training=sums[0],
        held_out=sums[1],
        gain_db=recipe.gain_db,
        max_states=recipe.max_states,
        noise_db=recipe.noise_db,
    )
    return Judge(scorer, fitted.detector(blank))


def train_judges(recipe: Recipe, clips: Sequence[F32], *, seed: int) -> Mapping[str, Judge]:
    """Train on normal clips, a share of them held out, and return the float32 and the int8 model's judge."""
    from train.export import to_tflite
    from train.features import WindowSet
    from train.fit import fit_network, representative_windows
    from train.networks import device_network

    held_out = list(clips[::HELD_OUT_EVERY])
    training = [clip for i, clip in enumerate(clips) if i % HELD_OUT_EVERY]
    window = recipe.window
    windows = WindowSet(training, n_frames=window.n_frames, hop_frames=window.hop_frames)
    watched = held_out if recipe.training.early_stopping is not None else []
    validation = WindowSet(watched, n_frames=window.n_frames, hop_frames=window.hop_frames)
    with contextlib.redirect_stdout(io.StringIO()):
        network = device_network(fit_network(recipe, windows, validation, seed=seed).model)
    models = {
        "float": to_tflite(network, representative=None),
        "int8": to_tflite(network, representative=representative_windows(recipe, windows)),
    }
    return {kind: judge(recipe, content, training=training, held_out=held_out) for kind, content in models.items()}


def auc(normal: F64, anomaly: F64) -> float:
    """Area under the ROC curve."""
    return aucs(normal, anomaly)[0]


def aucs(normal: F64, anomaly: F64) -> tuple[float, float]:
    """AUC, and pAUC at a false-positive rate of at most 0.1, standardised."""
    from sklearn.metrics import roc_auc_score

    labels, scores = np.repeat([0, 1], [len(normal), len(anomaly)]), np.concatenate((normal, anomaly))
    return float(roc_auc_score(labels, scores)), float(roc_auc_score(labels, scores, max_fpr=0.1))
