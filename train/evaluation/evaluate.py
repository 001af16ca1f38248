"""Evaluate: score every clip of a data set on the exported model, through the device's own scorer."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from monitor.arrays import F64, Bool
from monitor.audio.recording import Recording
from monitor.bundle import Bundle, load_bundle
from monitor.bundle.budget import WORKSTATION
from monitor.errors import BundleError, SourceError, printable
from monitor.scoring.components import Detector
from monitor.scoring.scorer import Scorer, TickScore
from train.calibration.cross_fitted import Stretch, read_cross_fitted
from train.calibration.known_split import known_split
from train.datasets import Clip, Dataset, Split, cut_s, of_channel, open_clip
from train.datasets.bandwidth import warn_of_low_rates
from train.datasets.clip import Label, hash_of
from train.datasets.parallel import in_parallel
from train.datasets.pieces import workers_to_read

FLOAT_MODEL = "report/model_float32.tflite"
Role = Literal["training", "cross-fitted", "held out", "test"]


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """The scores of a clip, or of a part of it.

    A held-out clip was not trained on, but used for the threshold. A cross-fitted clip was trained on; its `score` and
    `segments` are those stored in the bundle, by statistics fitted without it. It has no components and no float score.

    `segments` contains the end (s) and the score of each full segment. For a clip shorter than a segment, it contains the
    longest part that is scored.
    """

    clip: Clip
    name: str  # within the data set
    role: Role
    start_s: float = 0.0  # in the file; above 0 where the part before was trained on
    stop_s: float = math.inf  # finite where the part after was held out
    duration_s: float | None = None
    score: float | None = None  # of the whole file, or of this part of it
    components: tuple[float, ...] = ()  # ratios to their typical values, where the score is their mean
    float_score: float | None = None  # the score on the float32 model, where the bundle has one
    segments: tuple[tuple[float, float], ...] = ()
    float_pairs: tuple[
        tuple[float, float], ...
    ] = ()  # scores of full segments, else of the whole clip, on the float32 and on the shipped model
    problem: str | None = None  # why there is no score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of all clips, with the bundle and data set that they belong to."""

    folder: Path
    bundle: Bundle
    dataset: Dataset
    channel: int | None
    float_model: bytes | None
    roles_known: bool  # whether it is known which clips were trained on
    data_sha256: str
    low_rates: str | None  # a sentence, where recordings have empty bands
    scores: tuple[ClipScore, ...]

    @property
    def threshold(self) -> float:
        """The score from which a whole file counts as anomalous."""
        return float(self.bundle.manifest.calibration.file_threshold)

    @property
    def alarm_threshold(self) -> float | None:
        """The score from which a whole file is an alarm; None where there is one level."""
        return self.bundle.manifest.calibration.file_alarm_threshold

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The scored clips, each once; a clip that was cut in time has two scores."""
        return tuple(dict.fromkeys(one.clip for one in self.scores))

    @property
    def tested_roles(self) -> frozenset[Role]:
        """The roles in metrics: test, held-out and cross-fitted where no test clip is normal, training if there are no others."""
        scored = [one for one in self.scores if one.score is not None]
        if any(one.role == "test" and one.clip.label == "normal" for one in scored):
            return frozenset(("test",))
        if any(one.role != "training" for one in scored):
            return frozenset(("test", "held out", "cross-fitted"))
        return frozenset(("test", "held out", "cross-fitted", "training"))

    @property
    def test(self) -> tuple[ClipScore, ...]:
        """The scored clips that metrics are computed from."""
        roles = self.tested_roles
        return tuple(one for one in self.scores if one.score is not None and one.role in roles)

    def untested(self, role: Role) -> tuple[ClipScore, ...]:
        """The scored clips of this role that metrics do not use."""
        return tuple(one for one in self.scores if one.score is not None and one.role == role not in self.tested_roles)

    def labelled(self, label: Label) -> tuple[ClipScore, ...]:
        """The test clips with this label."""
        return tuple(one for one in self.test if one.clip.label == label)


def evaluate(
    folder: Path, dataset: Dataset, *, split: Path | None = None, channel: int | None = None, workers: int | None = None
) -> Evaluation:
    """Score `dataset` with the bundle in `folder`, on all cores unless `workers` limits them.

    The lists in `split`, else those in the bundle if it was trained on this data set, define the training clips. Cross-fitted
    scores are taken from the bundle where it has them. A clip that cannot be scored is listed with its problem. SourceError
    where no clip can be scored.
    """
    bundle = load_bundle(folder, budget=WORKSTATION)
    if bundle.is_base:
        raise BundleError(f"{folder}: is a base bundle, which judges nothing; it is learned on the device (monitor learn)")
    data_sha256 = dataset.sha256()
    known = known_split(folder, bundle.manifest, dataset, data_sha256=data_sha256, given=split)
    roles = _roles(dataset, known)
    clips = of_channel(dataset.clips, channel)
    float_path = folder / FLOAT_MODEL
    float_model = float_path.read_bytes() if float_path.is_file() else None
    is_converted = float_model is not None and float_model != (folder / bundle.manifest.model.file).read_bytes()
    models = (bundle, dataclasses.replace(bundle, model=float_model)) if float_model and is_converted else (bundle,)
    kept = read_cross_fitted(folder)
    jobs = []
    for clip in clips:
        name = printable(dataset.relative(clip))
        is_cut = known is not None and clip in known.held_out
        stretches = () if kept is None else kept.stretches_of(name, hash_of(clip.path))
        jobs.append(
            _Job(
                blank=ClipScore(clip=clip, name=name, role=roles[clip.path]),
                stretches=stretches,
                is_kept=kept is not None and kept.is_channel(clip, channel),
                cut=known.cut if known is not None and is_cut else None,
                channel=channel,
            )
        )
    done = list(
        in_parallel(
            _score_clip,
            jobs,
            workers=workers_to_read(clips) if workers is None else workers,
            bar="evaluate",
            set_up=partial(_use, models),
        )
    )
    scores = [one for _, of_clip in done for one in of_clip]
    rates_hz = [rate_hz for rate_hz, _ in done if rate_hz is not None]
    found = Evaluation(
        folder=folder,
        bundle=bundle,
        dataset=dataset,
        channel=channel,
        float_model=float_model if is_converted else None,
        roles_known=known is not None or kept is not None or any(clip.part == "train" for clip in clips),
        data_sha256=data_sha256,
        low_rates=warn_of_low_rates(rates_hz, bundle.manifest.front_end),
        scores=tuple(scores),
    )
    if not found.test:
        problems = [f" ({one.name}: {one.problem})" for one in scores if one.problem]
        raise SourceError(f"{dataset.root}: none of {len(scores)} clips can be scored{''.join(problems[:1])}")
    return found


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A clip to score. Its `stretches` have scores in the bundle, of the same channel if `is_kept`."""

    blank: ClipScore
    stretches: tuple[Stretch, ...]
    is_kept: bool
    cut: float | None  # share of the clip that was trained on, where the rest was held out
    channel: int | None


_scorers: list[Scorer]  # of this process: of the shipped model and, if there is one, of the float32 model
_detector: Detector


def _use(models: Sequence[Bundle]) -> None:
    global _scorers, _detector
    _scorers, _detector = [bundle.scorer() for bundle in models], models[0].detector()
    for scorer in _scorers:
        scorer.expected_db = None if models[0].expected is None else models[0].expected.mean_db


def _score_clip(job: _Job) -> tuple[int | None, list[ClipScore]]:
    """The rate of a clip, if it can be read, and its scores."""
    blank, rate_hz = job.blank, None
    try:
        recording = open_clip(blank.clip, sample_rate_hz=_scorers[0].spec.front_end.sample_rate_hz, channel=job.channel)
        rate_hz = recording.rate_hz
        if job.stretches and job.is_kept:
            return rate_hz, [_cross_fitted(blank, one, recording) for one in job.stretches]
        parts = [blank]
        if job.stretches:
            parts = [dataclasses.replace(blank, role="training")]
        elif job.cut is not None:
            at_s = cut_s(recording, job.cut)
            parts = [dataclasses.replace(blank, role="training", stop_s=at_s), dataclasses.replace(blank, start_s=at_s)]
        return rate_hz, [_scored(part, recording) for part in parts]
    except SourceError as error:
        return rate_hz, [dataclasses.replace(blank, problem=str(error).removeprefix(f"{blank.clip.path}: "))]


def labels_and_scores(clips: Sequence[ClipScore]) -> tuple[Bool, F64]:
    """Whether each scored clip is anomalous (n,), and its score (n,)."""
    scored = [(one.clip.label == "anomaly", one.score) for one in clips if one.score is not None]
    return np.array([anomaly for anomaly, _ in scored], bool), np.array([score for _, score in scored], np.float64)


def _roles(dataset: Dataset, split: Split | None) -> dict[Path, Role]:
    """The role of each clip, or of its last part where it was cut in time."""
    roles: dict[Path, Role] = {}
    for clip in dataset.clips:
        roles[clip.path] = "training" if split is None and clip.part == "train" else "test"
    if split is not None:
        roles.update({clip.path: "training" for clip in split.train})
        roles.update({clip.path: "held out" for clip in split.held_out})
    return roles


def _cross_fitted(blank: ClipScore, stretch: Stretch, recording: Recording) -> ClipScore:
    """A training clip, or the part of one in a fold, with its scores stored in the bundle.

    `float_pairs` are scored by the bundle's own statistics, which include the clip; they only compare the models.
    """
    part = dataclasses.replace(blank, role="cross-fitted", start_s=stretch.start_s, stop_s=stretch.stop_s)
    rescored = _scored(part, recording)
    end_s = math.inf if recording.duration_s is None else recording.duration_s
    return dataclasses.replace(
        rescored,
        score=stretch.score,
        components=(),
        float_score=None,
        segments=tuple((min(stop_s, end_s), score) for stop_s, score in stretch.segments),
        problem=None if stretch.score is not None else rescored.problem or "not scored: too short",
    )


def _scored(blank: ClipScore, recording: Recording) -> ClipScore:
    scorers, detector = _scorers, _detector
    ticks_of_all = list(_ticks(recording, scorers, blank))
    rate_hz = scorers[0].spec.front_end.sample_rate_hz
    score, *of_float = (scorer.file_score() for scorer in scorers)
    reasons = [tick.reason for tick, *_ in ticks_of_all if tick.reason is not None]
    problem = None
    if score is None:
        problem = f"not scored: {reasons[0]}" if reasons else "not scored: too short"
    sums = scorers[0].file_sums()
    with_score = [ticks for ticks in ticks_of_all if ticks[0].score is not None]
    full = [ticks for ticks in with_score if ticks[0].n_ticks == scorers[0].spec.segment_ticks] or with_score[-1:]
    pairs = [(other.score, tick.score) for tick, *others in full for other in others] or [(one, score) for one in of_float]
    return dataclasses.replace(
        blank,
        duration_s=None if recording.duration_s is None else min(recording.duration_s, blank.stop_s) - blank.start_s,
        score=score,
        components=() if sums is None or len(detector.components) == 1 else detector.component_ratios(sums) or (),
        float_score=of_float[0] if of_float else None,
        segments=tuple((blank.start_s + tick.stop / rate_hz, tick.score) for tick, *_ in full if tick.score is not None),
        float_pairs=tuple((one, other) for one, other in pairs if one is not None and other is not None),
        problem=problem,
    )


def _ticks(recording: Recording, scorers: Sequence[Scorer], part: ClipScore) -> Iterator[tuple[TickScore, ...]]:
    """The results of all scorers for each tick. They share its frames, so that a file is decoded and transformed once."""
    for scorer in scorers:
        scorer.source_rate_hz = recording.rate_hz
        scorer.reset()
    first = scorers[0]
    for block in recording.blocks(start_s=part.start_s, stop_s=part.stop_s):
        for tick in first.extract(block):
            yield tuple(scorer.score_tick(tick) for scorer in scorers)
    for tick in first.extract_last():
        yield tuple(scorer.score_tick(tick) for scorer in scorers)
