"""The scorer: ticks, frames, windows, model, detector, segment. Used by both `train` and `monitor`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.scoring.bandwidth import edge_hz, empty_bands, is_cut_off, is_cut_off_at, may_be_cut_off
from monitor.scoring.components import Detector, Observation
from monitor.scoring.fast_path import N_TICKS, excess_db, frequent_frame, lasting_frame
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.front_end import FrontEndSpec
from monitor.scoring.quality import Quality
from monitor.scoring.segment import Measured, Segment
from monitor.scoring.tick_sound import TickSound, mean_frame, tick_sound
from monitor.scoring.windows import Windows, WindowSpec, frame_columns


class Model(Protocol):
    """The network, with a fixed number of rows in and out."""

    def encode(self, frames: F32) -> NDArray[Any]:
        """Frames (n_frames, n_bands), dB, as the network reads them."""
        ...

    def predict(self, windows: NDArray[Any]) -> F32:
        """Turn windows of encoded frames (n_windows, n_in) into predictions (n_windows, n_out), dB."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScorerSpec:
    """The parameters of scoring, from the bundle's manifest."""

    front_end: FrontEndSpec
    window: WindowSpec
    tick_frames: int
    segment_ticks: int
    input_frames: tuple[int, ...]
    target_frames: tuple[int, ...]

    @property
    def tick_s(self) -> float:
        """The length of a tick in seconds."""
        return self.tick_frames * self.front_end.hop_length / self.front_end.sample_rate_hz


def _given(score: float | None) -> float | None:
    return score


@dataclass(frozen=True)
class TickScore:
    """The scores at the end of one tick. `stop` is one past its last sample, where the next tick starts."""

    start: int
    stop: int
    quality: Quality | None  # of its samples, None where there are none
    reason: str | None  # why this tick may not be scored
    score: float | None  # of the segment that ends here
    n_ticks: int  # valid ticks in that segment
    # Excess of this tick and the previous one over the ceiling of the fast path.
    excess_db: float | None = None
    score_alone: Callable[[], float | None] = field(default=partial(_given, None), compare=False, repr=False)

    @cached_property
    def tick_score(self) -> float | None:
        """The score of this tick alone, if it is long enough. Computed when it is read, because most are not."""
        return self.score_alone()

    def computed(self) -> "TickScore":
        """The same with its tick score computed, so that it does not keep the sums of the tick."""
        return replace(self, score_alone=partial(_given, self.tick_score))

    @property
    def rms_dbfs(self) -> float | None:
        """The level of the tick; None where there are no samples."""
        return None if self.quality is None else self.quality.rms_dbfs


class Scorer:
    """Score a stream of blocks, tick by tick. The scores are bit-identical for all block sizes.

    `response_db` (n_bands,) is the response of the microphone in use relative to the one used in training; it is
    subtracted from the frames before they are scored.
    """

    def __init__(self, spec: ScorerSpec, model: Model, detector: Detector, *, response_db: F32 | None = None) -> None:
        front_end = spec.front_end
        self.spec = spec
        self.ceiling_db: F32 | None = None  # of the fast path (n_bands,), if the bundle has one
        # Expected mean frame (n_bands,). Sound that lacks its upper bands is not scored.
        self.expected_db: F32 | None = None
        self.source_rate_hz: int | None = None  # before resampling; sound with too low a rate is not scored
        self._checked_rate_hz: int | None = None
        self._is_cut_by_rate = False
        self._model = model
        self.detector = detector
        self._response_db = response_db
        self._extractor = FeatureExtractor(front_end, tick_frames=spec.tick_frames)
        self._windows = Windows(spec.window, n_bands=front_end.n_bands, tick_frames=spec.tick_frames)
        encoded_type = model.encode(np.zeros((1, front_end.n_bands), np.float32)).dtype
        self._encoded = Windows(spec.window, n_bands=front_end.n_bands, tick_frames=spec.tick_frames, dtype=encoded_type)
        of = spec.window.n_frames
        self._inputs = frame_columns(spec.input_frames, n_bands=front_end.n_bands, of=of)
        self._targets = frame_columns(spec.target_frames, n_bands=front_end.n_bands, of=of)
        self._last: list[F32] = []  # uncorrected frames of the last consecutive whole ticks
        self.reset()

    @property
    def idle_below_dbfs(self) -> float | None:
        """The level below which the machine counts as off; None where it never does."""
        return self._extractor.idle_below_dbfs

    @idle_below_dbfs.setter
    def idle_below_dbfs(self, level: float | None) -> None:
        self._extractor.idle_below_dbfs = level

    def reset(self) -> None:
        """Drop all sound. The next block starts a new stream."""
        self._extractor.reset()
        self._segment = Segment(n_ticks=self.spec.segment_ticks, step_samples=self._extractor.step_samples)
        self._restart()
        self._file_sums: F64 | None = None
        self.scored_frames = 0

    @property
    def n_missing(self) -> int:
        """The number of samples until the next tick is full."""
        return self._extractor.n_missing

    def extract(self, block: Block) -> list[TickFrames]:
        """Append a block and return the ticks that it completes, each to be passed to `score_tick`."""
        return self._extractor.push(block)

    def extract_last(self) -> list[TickFrames]:
        """Return the partial tick at the end of a recording. Its padding is masked when it is scored."""
        return self._extractor.flush()

    def push(self, block: Block) -> list[TickScore]:
        """Append a block and return a score for each tick that it completes."""
        return [self.score_tick(tick) for tick in self.extract(block)]

    def flush(self) -> list[TickScore]:
        """Score the partial tick at the end of a recording."""
        return [self.score_tick(tick) for tick in self.extract_last()]

    def file_score(self) -> float | None:
        """The score over all valid windows since the start of the stream."""
        return None if self._file_sums is None else self.detector.score(self._file_sums)

    def file_sums(self) -> F64 | None:
        """The detector's sums over the stream so far; None before the first window."""
        return self._file_sums

    def tick_sums(self) -> F64:
        """The detector's sums over the last valid tick of the current segment, which must not be empty."""
        return self._segment.last_sums()

    def segment_sums(self) -> F64:
        """The detector's sums over the current segment, which must not be empty."""
        return self._segment.sums()

    def sounds(self, *, last: int | None = None) -> list[TickSound]:
        """The sound of the ticks of the current segment, or of its `last` ones, oldest first."""
        return self._segment.sounds()[-(last or self.spec.segment_ticks) :]

    def mean_frame(self) -> F64:
        """The mean frame (n_bands,), dB, uncorrected, of the current segment, which must not be empty."""
        return mean_frame(self.sounds())

    def frequent_frame(self) -> F32 | None:
        """The frequent frame (n_bands,), dB, of the last two ticks; None unless both are whole and adjacent."""
        return self._corrected(frequent_frame(np.concatenate(self._last))) if len(self._last) == N_TICKS else None

    def score_tick(self, tick: TickFrames) -> TickScore:
        """Score the next tick of the stream."""
        self._segment.advance(tick.stop)
        reason = tick.quality.reason if tick.frames is None else self._out_of_band(tick)
        if tick.fresh or reason is not None:
            self._restart()
        if tick.frames is None or reason is not None:
            return self._unscored(tick, reason)
        n_frames = tick.n_frames
        self._last = [*self._last, tick.frames][-N_TICKS:] if n_frames == self.spec.tick_frames else []
        sums = self._measure(self._corrected(tick.frames), n_frames)
        if sums is None:
            return self._unscored(tick, "short")
        self._add_to_file(sums, n_frames)
        self._segment.push(Measured(sums, tick_sound(tick, self.spec.front_end)))
        score = self.detector.score(self._segment.sums()) if self._segment.is_scorable else None
        alone = partial(self.detector.score, sums)
        return TickScore(tick.start, tick.stop, tick.quality, None, score, len(self._segment), self._excess_db(), alone)

    def _restart(self) -> None:
        """Start a new stream of windows."""
        self._windows.reset()
        self._encoded.reset()
        self._last = []

    def _out_of_band(self, tick: TickFrames) -> str | None:
        """The reason `bandwidth` if the sound lacks its upper bands, else None."""
        if self.source_rate_hz != self._checked_rate_hz:
            self._checked_rate_hz = rate_hz = self.source_rate_hz
            self._is_cut_by_rate = bool(rate_hz and empty_bands(rate_hz, self.spec.front_end, self.expected_db))
        return "bandwidth" if self._is_cut_by_rate or self._is_cut_off(tick) else None

    def _is_cut_off(self, tick: TickFrames) -> bool:
        if self.expected_db is None or tick.frames is None:
            return False
        mean_db = np.add.reduce(tick.frames[: tick.n_frames]) / np.float32(tick.n_frames)
        if is_cut_off(mean_db, self.expected_db):
            return True
        front_end = self.spec.front_end
        if not may_be_cut_off(mean_db, self.expected_db, front_end):
            return False
        n_samples = (tick.n_frames - 1) * front_end.hop_length + front_end.n_fft
        edge = edge_hz(tick.samples[:n_samples], sample_rate_hz=front_end.sample_rate_hz)
        return edge is not None and is_cut_off_at(edge, mean_db, self.expected_db, front_end.band_limits_hz())

    def _unscored(self, tick: TickFrames, reason: str | None) -> TickScore:
        return TickScore(tick.start, tick.stop, tick.quality, reason, None, len(self._segment))

    def _excess_db(self) -> float | None:
        if self.ceiling_db is None or len(self._last) < N_TICKS:
            return None
        return excess_db(self._corrected(lasting_frame(np.concatenate(self._last))), self.ceiling_db)

    def _corrected(self, frames: F32) -> F32:
        """The frames as the microphone used in training would have delivered them."""
        return frames if self._response_db is None else frames - self._response_db

    def _measure(self, frames: F32, n_frames: int) -> F64 | None:
        """The detector's sums of a tick; None if it ends before the stream's first window."""
        try:
            encoded, _ = self._encoded.push(self._model.encode(frames), n_frames)
            windows, valid = self._windows.push(frames, n_frames)
        except BaseException:  # otherwise the two would hold different ticks
            self._restart()
            raise
        if not valid.any():
            return None
        predicted = self._model.predict(encoded[:, self._inputs])
        return self.detector.measure(Observation(windows[:, self._targets], predicted, valid, frames[:n_frames]))

    def _add_to_file(self, sums: F64 | None, n_frames: int) -> None:
        if sums is None:
            return
        self._file_sums = sums if self._file_sums is None else self._file_sums + sums
        self.scored_frames += n_frames


def score_stream(scorer: Scorer, blocks: Iterable[Block]) -> list[TickScore]:
    """Score blocks as one complete stream, including its last partial tick."""
    scorer.reset()
    scored = [tick for block in blocks for tick in scorer.push(block)]
    return scored + scorer.flush()
