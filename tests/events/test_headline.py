"""The headline of an event."""

from dataclasses import replace
from typing import Any

import pytest

from monitor.events.event import Severity
from monitor.events.headline import headline
from tests.mqtt.anomalies import anomaly


@pytest.mark.parametrize(
    ("change", "before", "words"),
    [
        ({"event_type": "start"}, None, "ALARM STARTED"),
        ({"event_type": "end", "end_reason": "cleared"}, "alarm", "ALARM ended (cleared)"),
        ({"event_type": "update"}, "warning", "WARNING became ALARM"),
        ({"event_type": "update", "ratio": 1.0}, "alarm", "ALARM goes on"),
        ({"event_type": "update", "ratio": 0.99}, None, "ALARM quieter"),
    ],
)
def test_a_headline_names_the_change(change: dict[str, Any], before: Severity | None, words: str) -> None:
    assert headline(replace(anomaly(1)[0], severity="alarm", **change), before=before) == words
