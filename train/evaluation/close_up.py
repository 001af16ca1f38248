"""Details of one clip for figures: its sound, its frames, and the model's prediction of every window."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from monitor.arrays import F32, F64, Bool
from monitor.block import Block
from monitor.bundle.interpreter import TFLiteModel
from monitor.scoring.frames import stream_frames
from monitor.scoring.scorer import TickScore, score_stream
from monitor.scoring.windows import frame_columns
from train.datasets import open_clip
from train.evaluation.evaluate import ClipScore, Evaluation

MAX_S = 60.0


@dataclass(frozen=True, kw_only=True)
class CloseUp:
    """The first minute of the scored part of a clip.

    Samples (n,), full scale [-1, 1]; frames (m, n_bands), dB; targets and predictions (k, n_target_frames, n_bands), dB.
    """

    score: ClipScore
    rate_hz: int
    samples: F32
    frames: F32
    target: F32
    predicted: F32
    scored: Bool  # (k,): whether each window is scored; others lie in ticks that are silent, clipped, …
    frame_s: float
    window_s: float  # from one window to the next
    limits_hz: F64  # (n_bands + 1,): band i lies between limits i and i + 1
    ticks: tuple[TickScore, ...]

    @property
    def errors(self) -> F32:
        """Absolute error (k, n_target_frames, n_bands), dB, of each predicted value."""
        return np.asarray(np.abs(self.target - self.predicted))


def close_up(score: ClipScore, evaluation: Evaluation, model: TFLiteModel, *, n_rows: int, max_s: float = MAX_S) -> CloseUp:
    """Compute the details of a scored clip, of at least two windows; `model` predicts `n_rows` windows at a time."""
    spec = evaluation.bundle.manifest.scorer_spec
    front_end = spec.front_end
    window_s = (front_end.n_fft + spec.window.n_frames * front_end.hop_length) / front_end.sample_rate_hz
    recording = open_clip(score.clip, sample_rate_hz=front_end.sample_rate_hz, channel=evaluation.channel)
    parts = [block.samples for block in recording.blocks(start_s=score.start_s, stop_s=score.start_s + max(max_s, 2 * window_s))]
    block = Block(0, np.concatenate(parts))
    frames = np.concatenate(list(stream_frames([block], front_end, tick_frames=spec.tick_frames)))
    n_frames, n_bands = spec.window.n_frames, front_end.n_bands
    runs = sliding_window_view(frames.reshape(-1), n_frames * n_bands)[:: n_bands * spec.window.hop_frames]
    inputs, targets = (frame_columns(which, n_bands=n_bands, of=n_frames) for which in (spec.input_frames, spec.target_frames))
    shape = (len(runs), len(spec.target_frames), n_bands)
    ticks = score_stream(evaluation.bundle.scorer(), [block])
    counts = np.concatenate([np.full((tick.stop - tick.start) // front_end.hop_length, tick.reason is None) for tick in ticks])
    return CloseUp(
        score=score,
        rate_hz=front_end.sample_rate_hz,
        samples=block.samples,
        frames=frames,
        target=np.ascontiguousarray(runs[:, targets]).reshape(shape),
        predicted=_predict(model, runs[:, inputs], n_rows).reshape(shape),
        scored=np.asarray(sliding_window_view(counts, n_frames)[:: spec.window.hop_frames].all(axis=-1)),
        frame_s=front_end.hop_length / front_end.sample_rate_hz,
        window_s=spec.window.hop_frames * front_end.hop_length / front_end.sample_rate_hz,
        limits_hz=front_end.band_limits_hz(),
        ticks=tuple(ticks),
    )


def typical(clips: tuple[ClipScore, ...]) -> ClipScore | None:
    """The clip with the median score; None if there are no clips."""
    ranked = sorted(clips, key=lambda one: (one.score or 0.0, one.name))
    return ranked[len(ranked) // 2] if ranked else None


def band_errors(detail: CloseUp) -> F64 | None:
    """Mean absolute error (n_bands,), dB, of a clip in each band, over the scored windows; None where there are none."""
    errors = detail.errors[detail.scored]
    return np.asarray(errors.mean(axis=(0, 1), dtype=np.float64)) if len(errors) else None


def _predict(model: TFLiteModel, windows: F32, n_rows: int) -> F32:
    """Predictions of any number of windows (k, n_in): the last batch is padded, because the model takes full batches only."""
    padded = np.zeros((-(-len(windows) // n_rows) * n_rows, windows.shape[1]), np.float32)
    padded[: len(windows)] = windows
    return np.concatenate([model.predict(padded[at : at + n_rows]) for at in range(0, len(padded), n_rows)])[: len(windows)]
