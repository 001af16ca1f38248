from datetime import datetime, timedelta, timezone

from monitor.events.event import Anchor, Event, rfc3339
from monitor.explain.bands import Band

START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=timezone.utc)


def test_an_event_is_flat_json_with_milliseconds_in_utc() -> None:
    event = Event(
        event_type="start",
        id="0",
        seq=0,
        ts=START + timedelta(seconds=1.5),
        onset_ts=START.astimezone(timezone(timedelta(hours=5))),
        clock_synced=True,
        node="pi",
        machine="fan",
        severity="alarm",
        score=2.0,
        ratio=1.25,
        threshold=1.6,
        peak_ratio=1.25,
        duration_s=1.0,
        rms_dbfs=-30.0,
        bands=(Band(100.0, 200.0, 6.0),),
        summary="6 dB more than usual at 100-200 Hz",
        bundle="demo@1",
    )
    message = event.to_dict()
    assert list(message) == [
        *("schema", "event_type", "id", "seq", "ts", "onset_ts", "clock_synced", "node", "machine", "severity", "score", "ratio"),
        *("threshold", "peak_ratio", "duration_s", "rms_dbfs", "bands", "summary", "bundle", "clip", "end_reason", "raised_by"),
        *("decided_by", "impulses_hz", "test"),
    ]
    assert message["schema"] == 1
    assert (message["ts"], message["onset_ts"]) == ("2026-11-21T10:00:01.500Z", "2026-11-21T10:00:00.000Z")
    assert list(message["bands"]) == [{"low_hz": 100.0, "high_hz": 200.0, "excess_db": 6.0}]


def test_a_sample_index_is_a_time() -> None:
    anchor = Anchor(utc=START, sample_rate_hz=16000, synced=True)
    assert rfc3339(anchor.at(0)) == "2026-11-21T10:00:00.000Z"
    assert rfc3339(anchor.at(16000 * 3600 + 8)) == "2026-11-21T11:00:00.000Z"
    assert rfc3339(anchor.at(16)) == "2026-11-21T10:00:00.001Z"
