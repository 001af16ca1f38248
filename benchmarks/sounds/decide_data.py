"""The recordings on which `benchmarks.decide` evaluates thresholds, measured as on the device.

As with `monitor learn`, every set is measured with a network that was trained on something else, a synthetic fan. The
network has seen none of the recordings, so results on recordings that were not drawn are unbiased.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality import CARS, DATA, car_features
from benchmarks.sounds.frame_ticks import frame_ticks
from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle.detector import make_detector
from monitor.bundle.load import make_scorer
from monitor.learning.measured import RecordingSums, held_out_scores, time_folds
from monitor.learning.thresholds import FUSED_PRIOR, HeldOut, Thresholds, predicted_thresholds
from monitor.scoring.components import Detector
from monitor.scoring.frames import stream_frames
from monitor.scoring.scorer import Scorer
from train.calibration.cross_fitting import fit_in_folds
from train.recipes.recipe import Recipe, load_recipe
from train.synth import MACHINES, Growth, Machine, Scene

# Severity at which a plain autoencoder has an AUC of 0.75 (benchmarks.quality --parts synthetic), and 6 dB more.
MADE_SEVERITY_DB = {
    ("fan", "bearing"): -25.0,
    ("pump", "bearing"): -18.0,
    ("valve", "leak"): -43.0,
    ("gearbox", "rattle"): -20.0,
}
N_MADE, MADE_S = 120, 10.0
DILUTED_DB = 6.0


@dataclass(frozen=True)
class Set:
    """Normal recordings, in the order of recording if it is known, and anomalous ones."""

    name: str
    normal: tuple[RecordingSums, ...]
    anomaly: tuple[RecordingSums, ...]
    in_order: bool  # whether the order is chronological


def sets(names: Sequence[str], recipe: Recipe | None = None, *, network: bytes | None = None) -> list[Set]:
    """The sets with these names, from `SETS`, measured with a network; by default one trained on a synthetic fan."""
    listener = Listener(recipe or load_recipe("default"), network)
    return [found for name in names for found in SETS[name](listener)]


class Listener:
    """Turns frames and sound into measured recordings, using a network; by default one trained on a synthetic fan."""

    def __init__(self, recipe: Recipe, network: bytes | None = None) -> None:
        self.recipe = recipe
        blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
        self.scorer: Scorer = make_scorer(
            network or _network(recipe), spec=recipe.scorer_spec, layout=recipe.layout, detector=blank
        )

    def frames(self, sound: F32) -> F32:
        """The frames of samples at the recipe's rate."""
        front_end = self.recipe.front_end
        return np.concatenate(list(stream_frames([Block(0, sound)], front_end, tick_frames=self.recipe.tick_frames)))

    def measured(self, frames: F32) -> RecordingSums:
        """The frames of a recording (m, n_bands), dB, as the sums of its ticks."""
        scorer, n = self.scorer, self.recipe.tick_frames
        scorer.reset()
        sums: list[F64] = []
        before: F64 = np.zeros(1)
        for at in range(0, len(frames), n):
            for tick in frame_ticks(frames[at : at + n], tick_frames=n, is_fresh=at == 0):
                scorer.score_tick(tick)
            total = scorer.file_sums()
            if total is not None:
                sums.append(total - before)
                before = total
        return self.recording(np.array(sums))

    def recording(self, sums: F64) -> RecordingSums:
        """The sums (n, k) of consecutive ticks as a recording."""
        recipe = self.recipe
        step = recipe.tick_frames * recipe.front_end.hop_length
        none = np.empty((0, recipe.front_end.n_bands), np.float32)
        return RecordingSums(sums, np.zeros(len(sums)), np.arange(len(sums)) * step, step, len(sums) * recipe.tick_s / 3600, none)


@dataclass(frozen=True)
class Learned:
    """The result of learning normal recordings on the device: statistics, cross-fitted scores, and thresholds from these."""

    detector: Detector
    held_out: HeldOut
    thresholds: Thresholds


def learn(blank: Detector, known: Sequence[RecordingSums], recipe: Recipe) -> Learned:
    """Learn recordings, in chronological order, as `monitor learn` does. `blank` is the recipe's detector without statistics."""
    n_ticks = recipe.segment_ticks
    folds = time_folds(known, n_folds=5, n_ticks=n_ticks)
    rows = [np.concatenate([recording.pieces(n_ticks) for recording in fold]) for fold in folds]
    found, fitted = fit_in_folds(recipe, blank, rows)
    held_out = held_out_scores(
        [(fit.detector(blank), fold) for fit, fold in zip(found.without_fold, folds, strict=True)],
        segment_ticks=n_ticks,
        n_recordings=len(known),
        n_learned=sum(map(len, rows)),
        drift=found.drift,
    )
    return Learned(fitted.detector(blank), held_out, predicted_thresholds(held_out, prior=FUSED_PRIOR))


def samples(path: Path, rate_hz: int) -> F32:
    """The samples of a file at this rate."""
    return np.concatenate([block.samples for block in Recording(path, sample_rate_hz=rate_hz).blocks()])


def under(fault: F32, healthy: F32, level_db: float) -> F32:
    """A fault mixed `level_db` below healthy sound. It is only attenuated, because amplifying would raise its noise floor."""
    n = min(len(fault), len(healthy))
    fault, healthy = fault[:n], healthy[:n]
    wanted = 10.0 ** (-level_db / 20.0) * float(np.sqrt(np.mean(healthy**2) / np.mean(fault**2)))
    return np.asarray(healthy + np.float32(min(1.0, wanted)) * fault, np.float32)


def _cars(listener: Listener) -> list[Set]:
    found = []
    for car in CARS:
        normal, anomaly = (tuple(map(listener.measured, clips)) for clips in car_features(car))
        found.append(Set(f"toy car {car}", normal, anomaly, in_order=False))
    return found


def _folder(listener: Listener, name: str) -> dict[str, list[F32]]:
    rate_hz = listener.recipe.front_end.sample_rate_hz
    parts = ("normal", "anomaly")
    return {part: [samples(path, rate_hz) for path in sorted((DATA / name / part).iterdir())] for part in parts}


def _rail(listener: Listener) -> list[Set]:
    return [_plain(listener, "slide rail", _folder(listener, "slide-rail-id00"), in_order=False)]


def _bldc(listener: Listener) -> list[Set]:
    return [_plain(listener, "BLDC motor", _folder(listener, "bldc-motor"), in_order=False)]


def _compressor(listener: Listener) -> list[Set]:
    """The recordings as they are, and each fault 6 dB below one of the last 20 healthy recordings, which are never drawn."""
    sounds = _folder(listener, "air-compressor")
    hosts, rest = sounds["normal"][-20:], sounds["normal"][:-20]
    mixed = [under(fault, hosts[number % len(hosts)], DILUTED_DB) for number, fault in enumerate(sounds["anomaly"])]
    diluted = _plain(listener, f"compressor, faults {DILUTED_DB:g} dB under", {"normal": rest, "anomaly": mixed}, in_order=True)
    return [_plain(listener, "compressor", sounds, in_order=True), diluted]


def _synthetic(listener: Listener) -> list[Set]:
    found = []
    for (name, fault), severity_db in MADE_SEVERITY_DB.items():
        machine = MACHINES[name](100)
        takes = range(5000, 5000 + 40)
        times = np.float32(10.0 ** (severity_db / 20.0))
        faulty = [
            clean + times * (_sound(machine, take, fault) - clean) for take in takes for clean in (_sound(machine, take, None),)
        ]
        sounds = {"normal": [_sound(machine, take, None) for take in range(N_MADE)], "anomaly": faulty}
        found.append(_plain(listener, f"synthetic {name}, {fault}", sounds, in_order=False))
    return found


def _plain(listener: Listener, name: str, sounds: Mapping[str, Sequence[F32]], *, in_order: bool) -> Set:
    normal, anomaly = (tuple(listener.measured(listener.frames(one)) for one in sounds[part]) for part in ("normal", "anomaly"))
    return Set(name, normal, anomaly, in_order)


def _sound(machine: Machine, take: int, fault: str | None) -> F32:
    return np.concatenate(list(Scene(machine=machine, take=take, fault=fault, growth=Growth()).chunks(MADE_S)))


def _network(recipe: Recipe) -> bytes:
    """The recipe's network, int8, trained on a synthetic fan that is in none of the sets."""
    from train.features.frames import WindowSet
    from train.networks.export import to_tflite
    from train.networks.networks import device_network
    from train.networks.training import fit_network, representative_windows

    fan = MACHINES["fan"](7)
    front_end = recipe.front_end
    clips = [_sound(fan, take, None) for take in range(12)]
    runs = [np.concatenate(list(stream_frames([Block(0, one)], front_end, tick_frames=recipe.tick_frames))) for one in clips]
    windows = WindowSet(runs, n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)
    quick = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 10})})
    with contextlib.redirect_stdout(io.StringIO()):
        trained = fit_network(quick, windows, WindowSet([], n_frames=recipe.window.n_frames), seed=0)
    return to_tflite(device_network(trained.model), representative=representative_windows(recipe, windows))


SETS: Mapping[str, Callable[[Listener], list[Set]]] = {
    "cars": _cars,
    "rail": _rail,
    "bldc": _bldc,
    "compressor": _compressor,
    "synthetic": _synthetic,
}
