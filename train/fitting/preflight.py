"""Checks before training: leave out recordings that cannot be used, and refuse too little sound."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from monitor.errors import ConfigError, SourceError
from monitor.learning.report_text import count
from monitor.scoring.bandwidth import empty_bands
from train.datasets import Dataset, Piece, Split, load_split, split_dataset, split_pieces
from train.datasets.bandwidth import low_rates, warn_of_edges
from train.datasets.left_out import MAX_LEFT_OUT, without_problems
from train.datasets.survey import Surveyed
from train.recipes.recipe import PLAIN, RECIPES, Recipe, load_recipe

MAX_CLIPPED = 0.1  # of a recording
_MIN_SEGMENTS = 2  # for a spread
_MIN_CROSS_FITTED = 3  # each is scored by statistics of at least two others


def usable_split(
    split: Split, surveyed: Iterable[Surveyed], recipe: Recipe, *, channel: int | None, is_predicted: bool = False
) -> Split:
    """The split without recordings that cannot be trained on, each named on stderr.

    SourceError where these are many, where the recipe does not fit their rates, or where too little is left.
    """
    drawn = {clip.path for clip in (*split.train, *split.held_out)}
    surveyed = [one for one in surveyed if one.clip.path in drawn]
    _check_rates(surveyed, recipe)
    left = without_problems(surveyed, lambda one: problem_of(one, recipe))
    paths = {one.clip.path for one in left}
    train, held_out = (tuple(clip for clip in clips if clip.path in paths) for clips in (split.train, split.held_out))
    split = replace(split, train=train, held_out=held_out)
    warn_of_edges(left, recipe.front_end)
    _check_lengths(split, left, recipe, channel=channel, is_predicted=is_predicted)
    return split


def problem_of(one: Surveyed, recipe: Recipe) -> str | None:
    """Why a recording cannot be trained on; None for a good one."""
    path, spec = one.clip.path, recipe.front_end
    if one.problem is not None:
        return one.problem
    if (share := one.refused_s.get("clipped", 0.0) / one.duration_s) > MAX_CLIPPED:
        return f"{path}: is clipped in {share:.0%} of its length (at most {MAX_CLIPPED:.0%} allowed)"
    if n_empty := empty_bands(one.rate_hz, spec):
        above = f"nothing above {one.rate_hz / 2000:g} kHz, where {n_empty} of the model's {spec.n_bands} bands lie"
        return f"{path}: has {one.rate_hz} Hz, so it contains {above}"
    if (usable_s := max(0.0, one.usable_s(0.0, one.duration_s))) < recipe.shortest_s:
        return f"{path}: must hold at least {recipe.shortest_s:.2f} s of sound to train on, got {usable_s:.2f} s"
    return None


def fitting_recipes(rate_hz: int) -> list[str]:
    """The shipped recipes without an empty band at this rate."""
    found = []
    for name in sorted(path.stem for path in RECIPES.glob("*.yaml")):
        with suppress(ConfigError):
            if not empty_bands(rate_hz, load_recipe(name).at(rate_hz).front_end):
                found.append(name)
    return found


def _check_rates(surveyed: Sequence[Surveyed], recipe: Recipe) -> None:
    """SourceError with the recipes that fit, where too many recordings have a rate that the recipe's bands exceed."""
    rates_hz = [one.rate_hz for one in surveyed if one.error is None]
    low = [rate_hz for rate_hz in rates_hz if empty_bands(rate_hz, recipe.front_end)]
    if len(low) > MAX_LEFT_OUT * len(surveyed):
        names = fitting_recipes(min(low))
        advice = f"--recipe {'default' if 'default' in names else names[0]}" if names else "a recipe with lower bands"
        raise SourceError(f"{low_rates(rates_hz, recipe.front_end)}: use {advice}")


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


def _check_lengths(
    split: Split, surveyed: Sequence[Surveyed], recipe: Recipe, *, channel: int | None, is_predicted: bool
) -> None:
    """SourceError where there are too few segments to train on, or too few held-out ones to set a threshold on.

    A training recording shorter than a segment counts as one. A predicted threshold needs segments that share no sound.
    """
    training, held_out = split_pieces(split, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=channel)
    by_path = {one.clip.path: one for one in surveyed}
    n_ticks = recipe.segment_ticks

    def ticks(piece: Piece) -> float:
        return by_path[piece.recording.path].usable_s(piece.start_s, piece.stop_s) / recipe.tick_s

    def check(found: int, n_min: int, recordings: str, purpose: str) -> None:
        if found < n_min:
            raise SourceError(
                f"{recordings} must give at least {n_min} segments of {n_ticks * recipe.tick_s:.1f} s{purpose}, "
                f"got {found}: more or longer recordings are needed"
            )

    if recipe.calibration.part == "held_out":
        two = 2 * n_ticks if is_predicted else n_ticks + 1
        found = sum(0 if 2 * n < n_ticks else 1 if n < two else 2 for n in map(ticks, held_out))
        check(found, _MIN_SEGMENTS, count(len(held_out), "held-out recording"), " to set a threshold on")
    if recipe.detector != PLAIN:
        found = sum(max(1, int(n) // n_ticks) for n in map(ticks, training))
        recordings = f"{count(len(training), 'recording')} to train on"
        check(found, _MIN_CROSS_FITTED, recordings, " (a shorter recording counts as one)")
