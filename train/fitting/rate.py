"""The sample rate of recipes that take it from the recordings."""

import sys
from contextlib import suppress

from monitor.errors import SourceError
from train.datasets import Dataset, of_channel, open_clip
from train.recipes.recipe import MAX_RATE_HZ, Recipe


def at_own_rate(recipe: Recipe, data: Dataset, *, channel: int | None) -> Recipe:
    """The recipe at the lowest rate of the normal recordings for training; the rate is reported on stderr.

    A lower rate would lose sound of every recording; a higher one would leave bands of some empty. SourceError where
    none can be read, ConfigError where the rate is too low. Only headers are read.
    """
    if recipe.rate == "fixed":
        return recipe
    rates_hz = []
    for clip in of_channel([one for one in data.clips if one.label == "normal" and one.part != "test"], channel):
        with suppress(SourceError):  # reported later, with all unreadable files
            rates_hz.append(open_clip(clip, sample_rate_hz=1, channel=channel).rate_hz)
    if not rates_hz:
        raise SourceError(f"{data.root}: contains no readable normal recordings")
    found = recipe.at(min(rates_hz))
    rate_hz, highest = found.front_end.sample_rate_hz, max(rates_hz)
    why = (
        "the recordings' rate" if min(rates_hz) == highest == rate_hz else f"the recordings have {min(rates_hz)} to {highest} Hz"
    )
    if rate_hz == MAX_RATE_HZ < min(rates_hz):
        why = f"the recipe's maximum; the recordings have {min(rates_hz)} Hz or more"
    print(f"train: sample rate {rate_hz} Hz: {why}", file=sys.stderr)
    return found
