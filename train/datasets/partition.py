"""Partition a data set into clips to train on, normal clips held out for calibration, and clips to test with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from monitor.errors import SourceError
from train.datasets.clip import Clip, Dataset

Group = tuple[Clip, ...]  # of one recording
TEST_SHARE = 0.2
_FEW = 4  # recordings; from here on two are held out, because one shows no variation


@dataclass(frozen=True, kw_only=True)
class Split:
    """Clips for training, held out and for testing. Training and held-out clips are normal and not used for testing.

    They share clips only where all sound is one recording: then both hold the same, and each clip is cut in time: `cut` is
    the share of it, its first part, that is trained on.
    """

    train: tuple[Clip, ...]
    held_out: tuple[Clip, ...]
    test: tuple[Clip, ...]
    cut: float | None = None

    def __post_init__(self) -> None:
        train, held_out, test = ({clip.path for clip in clips} for clips in (self.train, self.held_out, self.test))
        for clip in (*self.train, *self.held_out):
            if clip.label != "normal":
                raise SourceError(f"{clip.path}: train and held out must hold normal sound only, got an anomaly")
            if clip.path in test:
                raise SourceError(f"{clip.path}: must not be tested with and be in train or held out")
        if train & held_out and (train != held_out or self.cut is None):
            raise SourceError(f"{min(train & held_out)}: must be in train or held out, got both")
        if self.cut is not None and not (train == held_out and 0.0 < self.cut < 1.0):
            raise SourceError(f"cut must be in 0..1, and train and held out the same, got {self.cut:g}")

    @property
    def in_time(self) -> bool:
        """Whether train and held out are the same clips, cut in time."""
        return self.cut is not None


def split_dataset(
    dataset: Dataset,
    *,
    held_out: float,
    seed: int,
    test_share: float = TEST_SHARE,
    by: Literal["recording", "file"] = "recording",
) -> Split:
    """Partition recordings, never parts of them, by seed, in each machine, id, section and domain alike.

    Anomalies and what the layout calls test are for testing. A data set that has anomalies but no test part gives
    `test_share` of its normal recordings to the test as well. Of what is left, the share `held_out` is held out: none for a
    share of 0, else of four recordings or more at least two. Where all of it is one recording, its last clips are drawn; if it
    is one clip (or its channels), it is cut in time.

    By `file` every file is drawn alone and from one lot, as published procedures do: parts of a recording may then stand on
    both sides.
    """
    if by == "file":
        whole = split_dataset(_of_single_files(dataset), held_out=held_out, seed=seed, test_share=test_share)
        clips = {clip.path: clip for clip in dataset.clips}
        parts = {name: tuple(clips[clip.path] for clip in getattr(whole, name)) for name in ("train", "held_out", "test")}
        return Split(**parts, cut=whole.cut)
    normal = dataset.labelled("normal")
    tested = {clip.recording for clip in dataset.clips if clip.label == "anomaly" or clip.part == "test"}
    groups = _groups([clip for clip in normal if clip.recording not in tested])
    if not groups:
        raise SourceError(f"{dataset.root}: must hold normal sound to train on, got none (layout {dataset.layout})")
    rng: np.random.Generator | None = np.random.default_rng(seed)
    if len(groups) == 1:
        channels = {clip.file_channel for clip in groups[0]}
        if held_out > 0.0 and (len(groups[0]) == 1 or len(channels) > 1):
            return Split(train=groups[0], held_out=groups[0], test=_sorted(dataset, tested, ()), cut=1.0 - held_out)
        groups, rng = [(clip,) for clip in groups[0]], None
    drawn: list[Group] = []
    if tested and all(clip.part != "test" for clip in dataset.clips):
        drawn, groups = _draw(groups, min(len(groups) - 2, max(1, round(test_share * len(groups)))), rng)
    least = 0 if held_out == 0.0 else 2 if len(groups) >= _FEW else 1
    kept_out, train = _draw(groups, min(len(groups) - 1, max(least, round(held_out * len(groups)))), rng)
    return Split(train=_flat(train), held_out=_flat(kept_out), test=_sorted(dataset, tested, _flat(drawn)))


def _of_single_files(dataset: Dataset) -> Dataset:
    """The same files, each as a recording of its own."""
    none: dict[str, Any] = {"machine": None, "id": None, "section": None, "domain": None, "attributes": {}}
    clips = (replace(clip, recording=dataset.relative(clip), **none) for clip in dataset.clips)
    return replace(dataset, clips=tuple(clips))


def _groups(clips: Sequence[Clip]) -> list[Group]:
    """Clips by recording, in the order of the recordings' names."""
    ordered = sorted(clips, key=lambda clip: (clip.recording, clip.path))
    return [tuple(group) for _, group in groupby(ordered, key=lambda clip: clip.recording)]


def _draw(groups: list[Group], n: int, rng: np.random.Generator | None) -> tuple[list[Group], list[Group]]:
    """Draw `n` groups, from every stratum its share of them, and those left; without a generator the last ones."""
    if n < 1:
        return [], groups
    if rng is None:
        return groups[-n:], groups[:-n]
    names = [_stratum(group) for group in groups]
    strata = sorted(set(names))
    members = [rng.permutation([i for i, name in enumerate(names) if name == stratum]) for stratum in strata]
    counts = _apportion([len(indexes) for indexes in members], n, rng)
    drawn = {int(i) for indexes, count in zip(members, counts, strict=True) for i in indexes[:count]}
    return [groups[i] for i in sorted(drawn)], [group for i, group in enumerate(groups) if i not in drawn]


def _apportion(sizes: Sequence[int], n: int, rng: np.random.Generator) -> list[int]:
    """Apportion `n` to strata by size: integer parts first, the rest by largest remainder, ties at random.

    A stratum keeps its last group as long as others have some to spare.
    """
    room = np.array([size - 1 for size in sizes])
    if room.sum() < n:
        room = np.array(sizes)
    exact = np.array(sizes) * n / sum(sizes)
    counts = np.minimum(exact.astype(int), room)
    lot = rng.permutation(len(sizes))
    while counts.sum() < n:
        need = np.where(counts < room, exact - counts, -np.inf)
        counts[lot[np.argmax(need[lot])]] += 1
    return [int(count) for count in counts]


def _stratum(group: Group) -> tuple[str, ...]:
    clip = group[0]
    return tuple(value or "" for value in (clip.machine, clip.id, clip.section, clip.domain))


def _flat(groups: Sequence[Group]) -> tuple[Clip, ...]:
    return tuple(sorted((clip for group in groups for clip in group), key=lambda clip: clip.path))


def _sorted(dataset: Dataset, recordings: set[str], drawn: Sequence[Clip]) -> tuple[Clip, ...]:
    """The clips of these recordings and the drawn ones, in the order of the data set."""
    paths = {clip.path for clip in drawn}
    return tuple(clip for clip in dataset.clips if clip.recording in recordings or clip.path in paths)
