"""Before an hour of training: is the sound sound?"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from monitor.errors import SourceError
from train.datasets import Clip, Dataset, Piece, Split, load_split, split_dataset, split_pieces
from train.datasets.survey import Surveyed, survey
from train.recipes.recipe import PLAIN, Recipe

MOST_CLIPPED = 0.1  # of a recording
_MIN_SEGMENTS = 2  # one alone has no spread,
_MIN_CROSS_FITTED = 3  # and each of them is scored by at least two others


def check_sound(clips: Sequence[Clip], *, channel: int | None) -> list[Surveyed]:
    """Every clip can be read and holds sound; SourceError names the first that does not, and counts the rest."""
    heard = survey(clips, channel=channel)
    if problems := problems_of(heard):
        more = f" (and {len(problems) - 1} more; see train inspect)" if len(problems) > 1 else ""
        raise SourceError(f"{problems[0]}{more}")
    return heard


def problems_of(heard: Iterable[Surveyed]) -> list[str]:
    """What keeps files from being trained on, a text each of these."""
    return [problem for one in heard if (problem := _problem(one)) is not None]


def check_held_out(
    pieces: Sequence[Piece], heard: Iterable[Surveyed], *, segment_ticks: int, tick_s: float, is_predicted: bool = False
) -> None:
    """What is held out, of what was heard, gives enough sound to set a threshold on; SourceError says how much it gives.

    To predict one (`is_predicted`) takes segments that share no sound.
    """
    two = 2 * segment_ticks if is_predicted else segment_ticks + 1

    def segments(ticks: float) -> int:
        return 0 if 2 * ticks < segment_ticks else 1 if ticks < two else 2

    found = sum(segments(seconds / tick_s) for seconds in _usable_s(pieces, heard))
    _check_segments(found, pieces, "held-out {}", segment_ticks * tick_s, " to set a threshold on")


def check_training(pieces: Sequence[Piece], heard: Iterable[Surveyed], recipe: Recipe) -> None:
    """What is trained on, of what was heard, shows how segments differ; SourceError says how many it gives.

    A recording shorter than a segment counts as one. SourceError names one that is too short to be scored at all.
    """
    usable_s = _usable_s(pieces, heard)
    for piece, seconds in zip(pieces, usable_s, strict=True):
        if seconds < recipe.shortest_s:
            path, least = piece.recording.path, recipe.shortest_s
            raise SourceError(f"{path}: must hold at least {least:.2f} s of sound to train on, got {max(0.0, seconds):.2f} s")
    found = sum(max(1, int(seconds / recipe.tick_s) // recipe.segment_ticks) for seconds in usable_s)
    segment_s = recipe.segment_ticks * recipe.tick_s
    _check_segments(
        found, pieces, "{} to train on", segment_s, " (a shorter recording counts as one)", at_least=_MIN_CROSS_FITTED
    )


def check_lengths(
    split: Split, heard: Iterable[Surveyed], recipe: Recipe, *, channel: int | None, is_predicted: bool = False
) -> None:
    """What is trained on and what is held out, of what was heard, is long enough for the recipe; else SourceError."""
    training, held_out = split_pieces(split, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=channel)
    heard = tuple(heard)
    if recipe.calibration.part == "held_out":
        check_held_out(held_out, heard, segment_ticks=recipe.segment_ticks, tick_s=recipe.tick_s, is_predicted=is_predicted)
    if recipe.detector != PLAIN:
        check_training(training, heard, recipe)


def recipe_split(data: Dataset, recipe: Recipe, *, seed: int, lists: Path | None) -> Split:
    """What `train fit` takes for what: by the lists in a folder, or drawn by the seed. Where nothing is held out, none is."""
    is_all = recipe.calibration.part == "cross_fitted"
    if lists is None:
        share = 0.0 if is_all else recipe.training.held_out
        return split_dataset(data, held_out=share, seed=seed, by=recipe.training.split_by)
    given = load_split(lists, data)
    if not is_all:
        return given
    return Split(train=tuple(dict.fromkeys(given.train + given.held_out)), held_out=(), test=given.test)


def _usable_s(pieces: Sequence[Piece], heard: Iterable[Surveyed]) -> list[float]:
    """How much of each piece the device would score."""
    by_path = {one.clip.path: one for one in heard}
    return [by_path[piece.recording.path].usable_s(piece.start_s, piece.stop_s) for piece in pieces]


def _check_segments(
    found: int, pieces: Sequence[Piece], which: str, segment_s: float, what_for: str = "", *, at_least: int = _MIN_SEGMENTS
) -> None:
    if found < at_least:
        recordings = which.format(f"recording{'s' * (len(pieces) != 1)}")
        raise SourceError(
            f"{len(pieces)} {recordings} must give at least {at_least} segments of {segment_s:.1f} s{what_for}, "
            f"got {found}: more or longer recordings are needed"
        )


def _problem(heard: Surveyed) -> str | None:
    if heard.error is not None:
        return heard.error
    if heard.silent:
        return f"{heard.clip.path}: must hold sound to train on, got silence"
    share = heard.refused_s.get("clipped", 0.0) / heard.duration_s
    if share > MOST_CLIPPED:
        return f"{heard.clip.path}: must not be clipped to train on, got {share:.0%} of it clipped"
    return None
