"""`monitor events` and `monitor history`: from a running service, and from the state directory of one that was killed."""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.cli.main import main
from monitor.clips.store import ClipStore, clip_stem
from monitor.history.database import Limits
from monitor.history.history import FILE
from monitor.history.recorder import ScoreRecorder
from monitor.history.store import HistoryStore
from tests.cli.bench import Bench
from tests.daemon.deaf_fan import running_service
from tests.daemon.watching import Watching
from tests.history.hours import BEGINNING, filled
from tests.mqtt.anomalies import anomaly

ROOT = Path(__file__).parents[2]


@pytest.fixture
def past(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A node that has seen two anomalies and 20 minutes of a fan, and does not run."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    recorder = ScoreRecorder()
    store = HistoryStore(bench.state / FILE, Limits(events=100, n_bytes=10**7), recorder, clock_synced=True)
    for event in (*anomaly(0), *anomaly(1, machine="pump")[:1]):
        store.add_event(event.to_dict())
    store.acknowledge(anomaly(0)[0].id, "2026-11-21T10:00:30.000Z")
    at = filled(recorder, BEGINNING, 600.0)
    filled(recorder, at, 600.0, ratio=2.0, state="anomaly")
    store.close()
    ClipStore(bench.state / "clips", max_bytes=10**6).save(clip_stem("fan", anomaly(0)[0].id), {".flac": b"x", ".png": b"x"})
    return bench


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_events_are_a_table_for_people_and_lines_for_programs(past: Bench) -> None:
    before = contents(past.state)
    table = past.run("events").splitlines()
    assert table[0].split() == ["started", "machine", "severity", "peak", "lasted", "end", "ack", "what", "is", "different"]
    local = datetime.fromisoformat("2026-11-21T11:00:00+00:00").astimezone().strftime("%Y-%m-%d %H:%M:%S")
    summary = "run/1: 13 dB more than usual at 2.5-3.8 kHz, ähnlich"
    assert table[1] == f"{local}  pump          alarm      3.40 x      12 s  open        -     {summary}"
    assert table[2].split()[2:9] == ["fan", "alarm", "3.40", "x", "12", "s", "cleared"]
    newest, oldest = lines(past.run("events", "--json"))
    assert (newest["machine"], newest["end_reason"], newest["has_clip"]) == ("pump", None, False)
    assert (oldest["acknowledged_at"], oldest["has_clip"], oldest["has_picture"]) == ("2026-11-21T10:00:30.000Z", True, True)
    assert lines(past.run("events", "--json", "--machine", "fan")) == [oldest]
    assert lines(past.run("events", "--json", "--limit", 1)) == [newest]
    assert lines(past.run("events", "--json", "--before", "2026-11-21T11:00:00")) == [oldest]
    assert past.run("events", "--machine", "saw") == "no events\n"
    assert contents(past.state) == before  # it only reads


def test_history_is_a_table_for_people_and_lines_for_programs(past: Bench) -> None:
    span = ("--from", "2026-11-21T10:00:00Z", "--to", "2026-11-21T11:00:00Z")
    table = past.run("history", *span, "--step", 600).splitlines()
    assert table[0].startswith("steps of 10 min      scores")
    assert len(table) == 3
    assert table[1].endswith("  585      0.5      0.5      0.5      0.5   -35 dBFS  normal 100 %")
    assert "anomaly" in table[2]
    found = lines(past.run("history", *span, "--json", "--machine", "fan", "--step", 10))
    assert len(found) == 360
    assert (found[0]["machine"], found[0]["step_s"], found[0]["states"]) == ("fan", 10, {"normal": 1.0})
    assert found[200]["ratio"]["mean"] is None
    assert past.run("history", "--machine", "pump", *span) == "no scores of pump in this time\n"
    wide = lines(past.run("history", "--from", "2000-01-01T00:00:00Z", "--json"))
    assert len(wide) <= 2_000
    assert sum(point["n"] for point in wide) == np.sum([point["n"] for point in found])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("history", "--from", "2026-11-21T10:00:00Z", "--to", "2026-11-21T09:00:00Z"), "--from must be before --to"),
        (("events", "--limit", "0"), "argument --limit: must be in 1..1000000, got '0'"),
        (("events", "--before", "yesterday"), "must be a time such as 2026-11-21T10:00:00Z, got 'yesterday'"),
        (("history", "--step", "1"), "must be in 10..3.2e+07, got '1'"),
        (("history", "--hours", "1", "--from", "2026-11-21"), "not allowed with argument"),
    ],
)
def test_bad_arguments_are_one_line(past: Bench, words: tuple[str, ...], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli.main", "--config", past.folder / "monitor.yaml", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_history_there_is_one_line(bench: Bench) -> None:
    assert "there is no history; has the service run with this state_dir?" in bench.run("events", status=1)
    bench.state.mkdir()
    assert "there is no history" in bench.run("history", status=1)
    (bench.state / FILE).write_bytes(os.urandom(5_000))
    assert bench.run("events", status=1).endswith("cannot be read: file is not a database")
    (bench.state / FILE).unlink()
    (bench.state / FILE).symlink_to("/etc/passwd")
    assert "cannot be read: Too many levels of symbolic links" in bench.run("events", status=1)


def test_a_running_service_answers_and_a_killed_one_loses_no_event(
    tmp_path: Path,
    demo_bundle: Path,
    demo_normal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running_service(tmp_path, demo_bundle, demo_normal) as service:
        service.configure("fan")
        service.daemon.start().ready()
        monkeypatch.setenv("STATE_DIRECTORY", str(service.daemon.folder / "state"))
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(service.daemon.folder / "run"))

        def monitor(*words: str) -> list[dict[str, Any]]:
            assert main(["--config", str(service.daemon.config), *words, "--json"]) == 0
            return lines(capsys.readouterr().out)

        with Watching(service.daemon.folder / "run") as watch:
            event = watch.until("event", event_type="start")["data"]
        (live,) = monitor("events")
        assert live["id"] == event["id"]
        assert sum(point["n"] for point in monitor("history", "--hours", "1", "--step", "10")) > 0
        unfinished = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)  # this hour
        service.daemon.kill()
        (stored,) = monitor("events")
        assert {**stored, "has_picture": live["has_picture"]} == live
        points = monitor("history", "--hours", "1")
        assert sum(point["n"] for point in points if datetime.fromisoformat(point["t"].replace("Z", "+00:00")) >= unfinished) == 0
        service.daemon.told.clear()
        service.daemon.start().ready()
        with Watching(service.daemon.folder / "run") as watch:
            watch.until("event", event_type="start")
        service.daemon.stop()
        assert sum(point["n"] for point in monitor("history", "--hours", "1")) > 0
        assert monitor("events")[-1]["end_reason"] == "restarted"
