"""State files are data: whatever is in them, the service starts, works and writes a valid file."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle import Bundle, load_bundle
from monitor.config import Config
from monitor.daemon.alarms import Alarms
from monitor.daemon.assembly import make_slow_path
from monitor.daemon.bundles.adaptations import FOLDER, IN_USE, in_use
from monitor.daemon.state_file import AlarmState, SavedSlowPath, SavedSlowPaths, ServiceState, StateFile
from monitor.daemon.state_publisher import StatePublisher
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Result
from monitor.events.slow_path import N_BLOCKS, SlowState
from monitor.files import read_regular
from monitor.scoring.scorer import TickScore
from tests.events.test_pipeline import START

N_MUTANTS = 20_000 if os.environ.get("LONG_TESTS") else 2_000
VALUES: list[Any] = [
    *(float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e308, 5e-324, -1, 0, 2**70, 253_402_300_800, 1e30, "9" * 400),
    *(None, True, "", "x", "\ud800", "\0", "#", "../..", [], {}, [[]], [1e300] * 48, [float("nan")] * 20, [1.0] * 2_000),
]


class Outlet:
    """A receiver of valid JSON."""

    def publish_retained(self, topic: str, payload: str) -> None:
        if topic.endswith("state"):
            json.loads(payload, parse_constant=pytest.fail)

    def publish(self, event: Event) -> None: ...


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def kept(bundle: Bundle, folder: Path) -> None:
    """Use `kept.json` as the daemon does."""
    file = StateFile(folder / "file", ServiceState(), what="everything")
    alarms = Alarms(file.loaded.alarms)
    alarms.apply_config(Config.model_validate({"machines": {"fan": {"bundle": "x"}, "pump": {"bundle": "y"}}}))
    timeline = Anchor(utc=START, sample_rate_hz=1, synced=True)
    for name in ("fan", "pump"):
        publisher = StatePublisher(
            Outlet(), machine=name, threshold=1.0, timeline=timeline, alarm=alarms[name], clock=alarms.clock
        )
        publisher.publish_state("starting", None, START)  # before the first tick
        for stop in (1, 20):
            publisher.push(Result(TickScore(stop, stop, None, None, 2.0, 2.0, 10), 2.0, "anomaly", None, 0, None, "alarm"))
    state = ServiceState(alarms=alarms.state(), topics=file.loaded.topics)
    assert ServiceState.model_validate_json(state.model_dump_json()) == state


def slow(bundle: Bundle, folder: Path) -> None:
    """Use `slow_paths.json` as the daemon does."""
    file = StateFile(folder / "file", SavedSlowPaths(), what="everything")
    for saved in file.loaded.machines.values():
        path = make_slow_path(bundle, saved.state(bundle.id))
        level_db = np.zeros(bundle.manifest.front_end.n_bands)
        for minute in range(16):
            for _ in range(60):
                path.push(1.0, start=minute, is_normal=True, level_db=level_db.copy)
        for number in (path.ratio, path.median, path.missing_h):
            assert number is None or np.isfinite(number)
        state = SavedSlowPaths(machines={"fan": SavedSlowPath.of(bundle.id, path.state())})
        assert SavedSlowPaths.model_validate_json(state.model_dump_json()) == state


def adapted(bundle: Bundle, folder: Path) -> None:
    """Use `in-use.json` as the daemon does."""
    (folder / FOLDER / "fan").mkdir(parents=True, exist_ok=True)
    (folder / "file").replace(folder / FOLDER / "fan" / IN_USE)
    assert in_use(folder, "fan", bundle).id == bundle.id


def valid(bundle: Bundle) -> dict[str, Any]:
    """A valid file of each kind."""
    n_bands = bundle.manifest.front_end.n_bands
    alarm = AlarmState(acknowledged=True, snoozed_until=1.9e9, flooding=True, starts=(1.8e9, 1.8e9 + 5), disabled=True)
    learned = SlowState((1.0, 1.5) * (N_BLOCKS // 2), (-40.0,) * n_bands, (50.0,) * n_bands, (1.0,) * 15)
    paths = SavedSlowPaths(machines={"fan": SavedSlowPath.of(bundle.id, learned)})
    entry = {"ts": "2026-11-21T10:00:00.000Z", "did": "learn", "said": "learned"}
    return {
        "kept": ServiceState(alarms={"fan": alarm, "pump": AlarmState()}, topics=frozenset({"stethos/a"})).model_dump(
            mode="json"
        ),
        "slow": paths.model_dump(mode="json"),
        "adapted": {
            "configured": bundle.id,
            "learn": "learn-20261121T100000000000",
            "extended": ["learn-20261120T100000000000"],
            "calibrate": None,
            "log": [entry],
        },
    }


def mutated(content: Any, chance: random.Random) -> Any:
    """The content with one value replaced, removed or repeated."""
    if chance.random() < 0.15 or not isinstance(content, dict | list) or not content:
        return chance.choice(VALUES)
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    key = chance.choice([*copy]) if isinstance(copy, dict) else chance.randrange(len(copy))
    match chance.randrange(10):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, list):
            copy *= chance.choice((2, 50))
        case 2 if isinstance(copy, dict):
            copy[chance.choice(("x", "nan", "\ud800", "disabled"))] = copy[key]
        case _:
            copy[key] = mutated(copy[key], chance)
    return copy


def damaged(text: bytes, chance: random.Random) -> bytes:
    """The text with one byte changed, or a part cut out or repeated."""
    a, b = sorted((chance.randrange(len(text)), chance.randrange(len(text))))
    return chance.choice((text[:a] + text[b:], text[:b] + text[a:], text[:a] + bytes([chance.randrange(256)]) + text[a + 1 :]))


@pytest.mark.parametrize("use", [kept, slow, adapted])
def test_no_mutant_stops_the_service(use: Any, bundle: Bundle, tmp_path: Path) -> None:
    chance, content = random.Random(7), valid(bundle)[use.__name__]
    for number in range(N_MUTANTS // 3 + 1):
        mutant = content
        for _ in range(chance.choice((1, 1, 1, 3))):
            mutant = mutated(mutant, chance)
        text = json.dumps(mutant).encode()
        text = damaged(text, chance) if number % 4 == 0 else text
        (tmp_path / "file").write_bytes(text)
        try:
            use(bundle, tmp_path)
        except Exception:
            print(f"mutant {number}: {text[:3_000]!r}")
            raise


@pytest.mark.parametrize("value", ["NaN", "1e300", "-1", "Infinity", "1e999"])
def test_a_time_that_is_none_is_refused_and_logged(
    value: str, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text(f'{{"alarms": {{"fan": {{"snoozed_until": {value}}}}}}}')
    kept(bundle, tmp_path)
    (message,) = caplog.messages
    assert "file cannot be read, everything are lost: alarms.fan.snoozed_until: " in message
    assert "\n" not in message


def test_a_file_that_is_a_pipe_a_folder_a_link_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 1_001)
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("pipe", "folder", "large", "link", "/dev/zero"):
        with pytest.raises(OSError, match=r"regular|larger|link"):
            read_regular(tmp_path / name, max_bytes=1_000, within=tmp_path)
    assert len(read_regular(tmp_path / "large", max_bytes=1_001)) == 1_001
