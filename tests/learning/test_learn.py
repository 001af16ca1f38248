"""What a machine is learned with, where no recipe says it."""

from monitor.learning import learn
from monitor.scoring.fast_path import FAST_TICK_S, LASTING, N_TICKS
from train.recipes.recipe import load_recipe

BANG_S, SOON_S = 1.0, 3.0


def test_the_gain_is_that_of_the_default_recipe() -> None:
    assert load_recipe("default").gain_db == learn.GAIN_DB


def test_ticks_of_the_fast_path_are_longer_than_bangs_and_decide_within_three_seconds() -> None:
    shortest_s, longest_s = FAST_TICK_S
    assert N_TICKS * LASTING * shortest_s > BANG_S
    assert (N_TICKS + 0.5) * longest_s < SOON_S
