"""The text of a message, and when a target is quiet."""

from dataclasses import replace
from datetime import datetime, time, timezone

import pytest
from pydantic import ValidationError

from monitor.config import NotifyConfig
from monitor.notify.message import MAX_BODY, MAX_TITLE, headline, render
from tests.mqtt.anomalies import anomaly

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=timezone.utc)


def config(**settings: object) -> NotifyConfig:
    return NotifyConfig.model_validate({"url": "json://127.0.0.1/hook", **settings})


def test_the_default_text_names_machine_reason_and_event() -> None:
    event = anomaly(0)[0]
    message = render(config(), "shift", event, name="Fan 3", headline=headline("start", "alarm", n_recent=1), now=NOW)
    assert message.title == "Fan 3: Alarm"
    assert message.body.splitlines()[0] == event.summary
    assert "3.40 x the threshold" in message.body
    assert event.id in message.body
    assert message.notify_type == "failure"


def test_every_field_can_be_used_and_braces_can_be_written() -> None:
    fields = "{headline}|{name}|{machine}|{node}|{severity}|{ratio}|{since}|{time}|{event}|{{}}"
    event = anomaly(0)[0]
    body = render(config(body=fields), "shift", event, name="Fan", headline="Alarm", now=NOW).body
    local = NOW.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert body.split("|")[:6] == ["Alarm", "Fan", "fan", "hall-2", "alarm", "3.40"]
    assert body.split("|")[7:] == [local, event.id, "{}"]


def test_texts_are_bounded_and_the_title_is_one_line() -> None:
    event = replace(anomaly(0)[0], summary="x" * 10_000)
    message = render(config(title="{summary}\n{name}"), "shift", event, name="Fan", headline="Alarm", now=NOW)
    assert len(message.title) == MAX_TITLE
    assert len(message.body) == MAX_BODY
    assert "\n" not in message.title


@pytest.mark.parametrize(
    "bad", ["{name.__class__}", "{name[0]}", "{name!r}", "{ratio:>999999}", "{0}", "{}", "{unknown}", "{name", "}"]
)
def test_a_template_can_only_name_fields(bad: str) -> None:
    with pytest.raises(ValidationError, match="must"):
        config(title=bad)


@pytest.mark.parametrize(
    "url",
    [
        "tgram://123456789:abcdef/42",
        "json://user:password@host/hook",
        "mailto://user@host?to=a@example.com",
        "json://host/?+Authorization=abc",
        "ntfy://host/topic?token=tk_abc",
        "no url",
        "json://host/\n",
    ],
)
def test_an_inline_url_that_may_contain_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValidationError) as error:
        config(url=url)
    assert url not in error.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("quiet", "moment", "is_quiet"),
    [
        ("22:00-06:00", time(23), True),
        ("22:00-06:00", time(5, 59), True),
        ("22:00-06:00", time(6), False),
        ("22:00-06:00", time(12), False),
        ("12:00-13:30", time(12, 15), True),
        ("12:00-13:30", time(13, 30), False),
    ],
)
def test_warnings_are_held_during_the_quiet_hours_and_alarms_if_told_so(quiet: str, moment: time, is_quiet: bool) -> None:
    assert config(quiet=quiet).is_quiet("warning", moment) == is_quiet
    assert not config(quiet=quiet).is_quiet("alarm", moment)
    assert config(quiet=quiet, quiet_alarms="hold").is_quiet("alarm", moment) == is_quiet
    assert not config().is_quiet("warning", moment)
