import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.decision import Counts, Rule, decide
from monitor.core.errors import ConfigError

RATIOS = st.lists(st.sampled_from([0.5, 0.89, 0.9, 0.95, 0.999, 1.0, 1.5]), max_size=120)
RULES = st.builds(
    lambda k, extra, m: Rule(raise_k=k, raise_n=k + extra, clear_m=m), st.integers(1, 12), st.integers(0, 8), st.integers(1, 20)
)


def run(rule: Rule, ratios: list[float]) -> list[bool]:
    counts, raised = Counts(), []
    for ratio in ratios:
        counts = decide(rule, counts, ratio)
        raised.append(counts.raised)
    return raised


def test_twelve_of_twenty_raise_and_eleven_do_not() -> None:
    assert run(Rule(), [1.0] * 11 + [0.95] * 30)[-1] is False
    assert run(Rule(), [1.0] * 12)[-1] is True
    assert run(Rule(), ([1.0, 0.95] * 30)) == [False] * 60


def test_it_clears_after_twenty_in_a_row_below_the_clear_ratio() -> None:
    raised = run(Rule(), [1.0] * 12 + [0.89] * 19 + [0.9] + [0.89] * 20)
    assert raised[11:] == [True] * 40 + [False]


def test_a_cleared_anomaly_needs_the_whole_count_again() -> None:
    raised = run(Rule(raise_k=2, raise_n=10, clear_m=1), [1.0, 1.0, 0.5, 1.0, 1.0])
    assert raised == [False, True, False, False, True]


@given(RULES, RATIOS)
def test_the_rule_is_what_it_says(rule: Rule, ratios: list[float]) -> None:
    """Against a plain reading of the rule over the whole history."""
    raised, since = False, 0
    for i, got in enumerate(run(rule, ratios)):
        heard = ratios[since : i + 1]
        if not raised:
            raised = sum(r >= 1.0 for r in heard[-rule.raise_n :]) >= rule.raise_k
        elif len(heard) >= rule.clear_m and all(r < rule.clear_ratio for r in heard[-rule.clear_m :]):
            raised, since = False, i + 1
        assert got is raised


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"raise_k": 21}, r"raise_k must be in 1..raise_n \(20\), got 21"),
        ({"raise_k": 0}, r"raise_k must be in 1..raise_n \(20\), got 0"),
        ({"clear_ratio": 1.0}, r"clear_ratio must be above 0 and below 1, got 1"),
        ({"clear_m": 0}, r"clear_m must be in 1..10000, got 0"),
        ({"raise_n": 0}, r"raise_n must be in 1..10000, got 0"),
    ],
)
def test_impossible_rules_are_named(rule: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**rule)
