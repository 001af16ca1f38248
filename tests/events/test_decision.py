import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.events.decision import Rule, RuleState, decide, decide_at_once
from monitor.events.event import Severity

ALARM_RATIO = 1.4
RATIOS = st.lists(st.sampled_from([0.5, 0.89, 0.9, 0.95, 0.999, 1.0, 1.399, 1.4, 5.0]), max_size=120)
RULES = st.builds(
    lambda k, extra, m: Rule(raise_k=k, raise_n=k + extra, clear_m=m), st.integers(1, 12), st.integers(0, 8), st.integers(1, 20)
)


def run(rule: Rule, ratios: list[float]) -> list[bool]:
    counts, raised = RuleState(), []
    for ratio in ratios:
        counts = decide(rule, counts, ratio)
        raised.append(counts.raised)
    return raised


def severities(rule: Rule, ratios: list[float], *, alarm_ratio: float = ALARM_RATIO) -> list[Severity | None]:
    counts, found = RuleState(), []
    for ratio in ratios:
        counts = decide(rule, counts, ratio, alarm_ratio=alarm_ratio)
        found.append(counts.severity)
    return found


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
def test_the_rule_agrees_with_its_definition(rule: Rule, ratios: list[float]) -> None:
    """Against a plain reading of the rule over the whole history."""
    raised, since = False, 0
    for i, got in enumerate(run(rule, ratios)):
        heard = ratios[since : i + 1]
        if not raised:
            raised = sum(r >= 1.0 for r in heard[-rule.raise_n :]) >= rule.raise_k
        elif len(heard) >= rule.clear_m and all(r < rule.clear_ratio for r in heard[-rule.clear_m :]):
            raised, since = False, i + 1
        assert got is raised


@given(RULES, RATIOS)
def test_two_levels_change_nothing_about_when_an_anomaly_begins_and_ends(rule: Rule, ratios: list[float]) -> None:
    assert [severity is not None for severity in severities(rule, ratios)] == run(rule, ratios)


@given(RULES, RATIOS)
def test_an_alarm_is_k_of_n_over_the_alarm_level_and_never_falls_while_it_is_open(rule: Rule, ratios: list[float]) -> None:
    """Against a plain reading of the rule over the whole history."""
    expected, since = None, 0
    for i, got in enumerate(severities(rule, ratios)):
        heard = ratios[since : i + 1]
        if expected is not None and len(heard) >= rule.clear_m and all(r < rule.clear_ratio for r in heard[-rule.clear_m :]):
            expected, since = None, i + 1
        elif expected == "alarm" or sum(r >= ALARM_RATIO for r in heard[-rule.raise_n :]) >= rule.raise_k:
            expected = "alarm"
        elif expected == "warning" or sum(r >= 1.0 for r in heard[-rule.raise_n :]) >= rule.raise_k:
            expected = "warning"
        assert got == expected


@given(RULES, RATIOS)
def test_with_one_level_every_anomaly_is_an_alarm(rule: Rule, ratios: list[float]) -> None:
    assert severities(rule, ratios, alarm_ratio=1.0) == ["alarm" if raised else None for raised in run(rule, ratios)]


@given(st.integers(1, 11), st.floats(1.0, 1e6), st.integers(0, 30))
def test_one_bang_raises_neither(n_segments: int, ratio: float, before: int) -> None:
    assert set(severities(Rule(), [0.95] * before + [ratio] * n_segments + [0.95] * 40)) <= {None}


def test_what_grows_is_a_warning_before_it_is_an_alarm() -> None:
    found = severities(Rule(), [1.0 + 0.02 * i for i in range(60)] + [0.5] * 20)
    assert found == [None] * 11 + ["warning"] * 20 + ["alarm"] * 48 + [None]


def test_what_is_loud_at_once_is_an_alarm_without_a_warning() -> None:
    assert severities(Rule(), [5.0] * 12) == [None] * 11 + ["alarm"]


def test_the_fast_path_makes_an_alarm_of_a_warning() -> None:
    counts = RuleState()
    for _ in range(12):
        counts = decide(Rule(), counts, 1.2, alarm_ratio=ALARM_RATIO)
    assert counts.severity == "warning"
    assert decide_at_once(counts).severity == "alarm"
    assert decide(Rule(), decide_at_once(counts), 1.2, alarm_ratio=ALARM_RATIO).severity == "alarm"


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
