"""Recordings measured once, tick by tick, so that any statistics can score them without running the network again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32, F64, Bool
from monitor.learning.methods import equal_blocks
from monitor.learning.thresholds import HeldOut
from monitor.scoring.components import Detector


@dataclass(frozen=True)
class RecordingSums:
    """The valid ticks of one recording, or of a part of one, in chronological order.

    `sums` (n, k) are those of the detector, `levels_dbfs` (n,) the levels of the ticks, and `starts` (n,) the indexes of
    their first samples, which are `step_samples` apart where there is no gap. `hours` is the total length. The fast path is
    fitted to `frequent` (m, n_bands), dB. `name` is the name of the recording.
    """

    sums: F64
    levels_dbfs: F64
    starts: NDArray[np.int64]
    step_samples: int
    hours: float
    frequent: F32
    name: str = ""

    def __len__(self) -> int:
        return len(self.sums)

    def segments(self, n_ticks: int) -> F64:
        """The sums (m, k) of every full segment, formed as on the device: n_ticks valid ticks within twice that time."""
        if len(self) < n_ticks:
            return self.sums[:0]
        totals = np.concatenate((np.zeros((1, self.sums.shape[1])), np.cumsum(self.sums, axis=0)))
        return np.asarray((totals[n_ticks:] - totals[:-n_ticks])[self._are_recent(n_ticks)])

    def segment_stops(self, n_ticks: int) -> NDArray[np.int64]:
        """One past the last sample of each full segment (m,)."""
        return self.starts[n_ticks - 1 :][self._are_recent(n_ticks)] + self.step_samples

    def pieces(self, n_ticks: int) -> F64:
        """The sums (m, k) of segments that share no sound. For a shorter recording, those of all of it."""
        return self.segments(n_ticks)[::n_ticks] if len(self) >= n_ticks else self.whole()[None][: len(self)]

    def _are_recent(self, n_ticks: int) -> Bool:
        first, last = self.starts[: max(0, len(self) - n_ticks + 1)], self.starts[n_ticks - 1 :]
        return np.asarray(first >= last + self.step_samples - 2 * n_ticks * self.step_samples)

    def whole(self) -> F64:
        """The sums (k,) over the whole recording."""
        return np.asarray(self.sums.sum(axis=0))

    def __getitem__(self, part: slice) -> "RecordingSums":
        """A part of the recording, without `frequent`."""
        return replace(
            self,
            sums=self.sums[part],
            levels_dbfs=self.levels_dbfs[part],
            starts=self.starts[part],
            hours=self.hours * len(self.sums[part]) / max(1, len(self)),
            frequent=self.frequent[:0],
        )


def held_out_scores(
    folds: Sequence[tuple[Detector, Sequence[RecordingSums]]],
    *,
    segment_ticks: int,
    n_recordings: int,
    n_learned: int,
    drift: float = 0.0,
) -> HeldOut:
    """Score each fold of recordings, in chronological order, by the detector paired with it, which was fitted without it."""
    sequences: list[F64] = []
    units: list[F64] = []
    for detector, recordings in folds:
        for is_long, run in groupby(recordings, key=lambda one: len(one) >= segment_ticks):
            if is_long:
                found = [scores(detector, one.segments(segment_ticks)) for one in run]
                units += [one[::segment_ticks] for one in found]
            else:
                found = [one[None] for one in scores(detector, joined(run, segment_ticks))]
                units += found
            sequences += [one for one in found if len(one)]
    everything = [(detector, one) for detector, recordings in folds for one in recordings]
    return HeldOut(
        sequences=tuple(sequences),
        unit_scores=np.concatenate((np.empty(0), *units)),
        file_scores=np.concatenate((np.empty(0), *(scores(detector, [one.whole()]) for detector, one in everything if len(one)))),
        hours=sum(one.hours for _, one in everything),
        n_recordings=n_recordings,
        n_learned=n_learned,
        drift=drift,
        tick_scores=np.concatenate((np.empty(0), *(scores(detector, one.sums) for detector, one in everything))),
        tick_levels_dbfs=np.concatenate((np.empty(0), *(one.levels_dbfs for _, one in everything))),
        frequent=np.concatenate([one.frequent for _, one in everything]),
    )


def joined(recordings: Iterable[RecordingSums], n_ticks: int) -> Iterator[F64]:
    """The sums (k,) of segments that are joined from consecutive recordings, each shorter than a segment.

    No window and no frame spans two recordings. A remainder at the end is dropped, unless it is the only segment.
    """
    run: list[F64] = []
    n_joined, is_first = 0, True
    for recording in recordings:
        run.append(recording.whole())
        n_joined += len(recording)
        if n_joined >= n_ticks:
            yield np.asarray(np.sum(run, axis=0))
            run, n_joined, is_first = [], 0, False
    if run and is_first:
        yield np.asarray(np.sum(run, axis=0))


def scores(detector: Detector, sums: Iterable[F64]) -> F64:
    """The scores (n,) of the rows of sums that can be scored."""
    return np.array([score for row in sums if (score := detector.score(row)) is not None], np.float64)


def time_folds(recordings: Sequence[RecordingSums], *, n_folds: int, n_ticks: int) -> list[list[RecordingSums]]:
    """Split recordings into `n_folds` contiguous folds: whole recordings if there are enough, otherwise cut between segments.

    If there are fewer segments than folds, there are fewer folds.
    """
    if len(recordings) >= n_folds:
        return [list(recordings[part]) for part in equal_blocks(len(recordings), n_blocks=n_folds)]
    cuts = [(number, at) for number, one in enumerate(recordings) for at in range(0, max(1, len(one) - n_ticks + 1), n_ticks)]
    folds = []
    for part in equal_blocks(len(cuts), n_blocks=min(n_folds, len(cuts))):
        stop = cuts[part.stop] if part.stop < len(cuts) else (len(recordings), 0)
        (first, start), (last, end) = cuts[part.start], stop
        spans = [(number, start if number == first else 0, end if number == last else None) for number in range(first, last + 1)]
        folds.append([recordings[number][low:high] for number, low, high in spans if number < len(recordings) and high != 0])
    return folds
