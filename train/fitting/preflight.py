"""Checks before training: readable files, clipping, and enough sound."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from monitor.errors import SourceError
from train.datasets import Clip, Dataset, Piece, Split, load_split, split_dataset, split_pieces
from train.datasets.survey import Surveyed, survey
from train.recipes.recipe import PLAIN, Recipe

MAX_CLIPPED = 0.1  # of a recording
_MIN_SEGMENTS = 2  # for a spread
_MIN_CROSS_FITTED = 3  # each is scored by statistics of at least two others


def check_sound(clips: Sequence[Clip], *, channel: int | None) -> list[Surveyed]:
    """Check that every clip can be read and is not silent; SourceError names the first bad one and counts the others."""
    surveyed = survey(clips, channel=channel)
    if problems := problems_of(surveyed):
        more = f" (and {len(problems) - 1} more; see train inspect)" if len(problems) > 1 else ""
        raise SourceError(f"{problems[0]}{more}")
    return surveyed


def problems_of(surveyed: Iterable[Surveyed]) -> list[str]:
    """The problems of files that cannot be trained on, one text per file."""
    return [problem for one in surveyed if (problem := _problem(one)) is not None]


def check_held_out(
    pieces: Sequence[Piece], surveyed: Iterable[Surveyed], *, segment_ticks: int, tick_s: float, is_predicted: bool = False
) -> None:
    """Check that there is enough held-out sound for a threshold; SourceError states how much there is.

    A predicted threshold (`is_predicted`) needs segments that share no sound.
    """
    two = 2 * segment_ticks if is_predicted else segment_ticks + 1

    def segments(ticks: float) -> int:
        return 0 if 2 * ticks < segment_ticks else 1 if ticks < two else 2

    found = sum(segments(seconds / tick_s) for seconds in _usable_s(pieces, surveyed))
    _check_segments(found, pieces, "held-out {}", segment_ticks * tick_s, " to set a threshold on")


def check_training(pieces: Sequence[Piece], surveyed: Iterable[Surveyed], recipe: Recipe) -> None:
    """Check that there are enough training segments for statistics; SourceError states how many there are.

    A recording shorter than a segment counts as one. SourceError names one that is too short to be scored at all.
    """
    usable_s = _usable_s(pieces, surveyed)
    for piece, seconds in zip(pieces, usable_s, strict=True):
        if seconds < recipe.shortest_s:
            path, shortest_s = piece.recording.path, recipe.shortest_s
            raise SourceError(
                f"{path}: must hold at least {shortest_s:.2f} s of sound to train on, got {max(0.0, seconds):.2f} s"
            )
    found = sum(max(1, int(seconds / recipe.tick_s) // recipe.segment_ticks) for seconds in usable_s)
    segment_s = recipe.segment_ticks * recipe.tick_s
    _check_segments(
        found, pieces, "{} to train on", segment_s, " (a shorter recording counts as one)", min_segments=_MIN_CROSS_FITTED
    )


def check_lengths(
    split: Split, surveyed: Iterable[Surveyed], recipe: Recipe, *, channel: int | None, is_predicted: bool = False
) -> None:
    """Check that training and held-out sound are long enough for the recipe; else SourceError."""
    training, held_out = split_pieces(split, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=channel)
    surveyed = tuple(surveyed)
    if recipe.calibration.part == "held_out":
        check_held_out(held_out, surveyed, segment_ticks=recipe.segment_ticks, tick_s=recipe.tick_s, is_predicted=is_predicted)
    if recipe.detector != PLAIN:
        check_training(training, surveyed, recipe)


def recipe_split(data: Dataset, recipe: Recipe, *, seed: int, lists: Path | None) -> Split:
    """The split of `train fit`: from the lists in a folder, or drawn by the seed; cross-fitted recipes hold nothing out."""
    is_all = recipe.calibration.part == "cross_fitted"
    if lists is None:
        share = 0.0 if is_all else recipe.training.held_out
        return split_dataset(data, held_out=share, seed=seed, by=recipe.training.split_by)
    given = load_split(lists, data)
    if not is_all:
        return given
    return Split(train=tuple(dict.fromkeys(given.train + given.held_out)), held_out=(), test=given.test)


def _usable_s(pieces: Sequence[Piece], surveyed: Iterable[Surveyed]) -> list[float]:
    """Seconds of each piece that the device would score."""
    by_path = {one.clip.path: one for one in surveyed}
    return [by_path[piece.recording.path].usable_s(piece.start_s, piece.stop_s) for piece in pieces]


def _check_segments(
    found: int, pieces: Sequence[Piece], which: str, segment_s: float, what_for: str = "", *, min_segments: int = _MIN_SEGMENTS
) -> None:
    if found < min_segments:
        recordings = which.format(f"recording{'s' * (len(pieces) != 1)}")
        raise SourceError(
            f"{len(pieces)} {recordings} must give at least {min_segments} segments of {segment_s:.1f} s{what_for}, "
            f"got {found}: more or longer recordings are needed"
        )


def _problem(surveyed: Surveyed) -> str | None:
    if surveyed.error is not None:
        return surveyed.error
    if surveyed.silent:
        return f"{surveyed.clip.path}: is silent, so it cannot be trained on"
    share = surveyed.refused_s.get("clipped", 0.0) / surveyed.duration_s
    if share > MAX_CLIPPED:
        return f"{surveyed.clip.path}: is clipped in {share:.0%} of its length (at most {MAX_CLIPPED:.0%} allowed)"
    return None
