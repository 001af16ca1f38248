"""Drift follows slow changes of normal segments, and has no value too early."""

import json
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monitor.daemon.state_publisher import StatePublisher
from monitor.events.drift import Drift
from monitor.events.event import Anchor, State
from monitor.events.pipeline import Result
from monitor.scoring.scorer import TickScore

TICK_S = 1.024
DAY = round(86_400 / TICK_S)


def drift() -> Drift:
    return Drift(score_mean=1.0, score_std=0.1, tick_s=TICK_S)


def test_it_has_no_value_for_ten_minutes_and_then_the_mean() -> None:
    found = drift()
    scores = 1.0 + 0.1 * np.random.default_rng(0).standard_normal(600)
    said = []
    for score in scores:
        found.update(float(score))
        said.append(found.value)
    assert said.index(next(value for value in said if value is not None)) == round(600 / TICK_S) - 1
    assert said[-1] == pytest.approx((scores.mean() - 1.0) / 0.1, abs=0.01)


def test_after_a_day_of_something_else_most_of_it_has_arrived() -> None:
    found = drift()
    for score in (1.0, 1.3):
        for _ in range(DAY):
            found.update(score)
    mixed = 3.0 * (1.0 - np.exp(-1.0)) / (1.0 - np.exp(-2.0))
    assert found.value == pytest.approx(mixed, rel=1e-3)


@pytest.mark.parametrize(("state", "ratio", "counts"), [("normal", 0.5, True), ("anomaly", 0.5, False), ("normal", 1.1, False)])
def test_only_normal_segments_below_the_threshold_count(state: State, ratio: float, counts: bool) -> None:
    said: list[str] = []
    outlet: Any = SimpleNamespace(publish_retained=lambda topic, payload: said.append(payload), publish=None)
    heard = drift()
    anchor = Anchor(utc=datetime(2026, 1, 1, tzinfo=timezone.utc), sample_rate_hz=16_000, synced=True)
    publisher = StatePublisher(outlet, machine="fan", threshold=2.0, timeline=anchor, drift=heard)
    for at in range(600):
        tick = TickScore(at * 16_384, (at + 1) * 16_384, None, None, 1.1, 10)
        publisher.push(Result(tick, ratio, state, None, 0, None))
    assert heard.value == (pytest.approx(1.0) if counts else None)
    states = [text for text in said if text.startswith("{")]
    assert json.loads(states[-1])["drift"] == (1.0 if counts else None)
