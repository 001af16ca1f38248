"""A base bundle judges nothing: its machine is `learning` while there is sound to learn from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor import Monitor, load_bundle
from monitor.arrays import F32
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.config import IdleConfig
from monitor.events.pipeline import Result

RATE_HZ = 16_000


@pytest.fixture
def bundle(base_bundle: Path) -> Bundle:
    return load_bundle(base_bundle)


@pytest.fixture(scope="module")
def fault(root: Path) -> F32:
    samples, _ = soundfile.read(root / "demo" / "fan-bearing.flac", dtype="float32")
    return np.asarray(samples[: 80 * RATE_HZ], np.float32)


def run(monitor: Monitor, samples: F32) -> list[Result]:
    return [*monitor.push(Block(0, samples)), *monitor.flush()]


def test_a_fault_is_no_event_and_has_no_score(bundle: Bundle, fault: F32) -> None:
    monitor = Monitor(bundle)
    results = run(monitor, np.concatenate((fault, np.ones(RATE_HZ, np.float32))))
    assert {result.state for result in results} == {"learning"}
    assert {(result.event, result.ratio, result.tick.score, result.tick.tick_score) for result in results} == {(None,) * 4}
    assert monitor.close() is None
    assert results[0].since == results[-1].since == results[0].tick.stop


def test_unusable_sound_is_unknown_after_half_a_segment_and_learning_again_at_once(bundle: Bundle, fault: F32) -> None:
    silence = np.zeros(10 * RATE_HZ, np.float32)
    results = run(Monitor(bundle), np.concatenate((fault[: 10 * RATE_HZ], silence, fault[: 10 * RATE_HZ])))
    states = [(result.state, result.reason) for result in results]
    changes = [state for state, before in zip(states, [None, *states], strict=False) if state != before]
    assert changes == [("learning", None), ("unknown", "silent"), ("learning", None)]
    assert 4 <= sum(reason == "silent" for _, reason in states) <= 7


def test_without_a_microphone_it_is_unknown(bundle: Bundle, fault: F32) -> None:
    monitor = Monitor(bundle)
    run(monitor, fault[: 10 * RATE_HZ])
    result = monitor.no_input(11 * RATE_HZ, "microphone_absent")
    assert (result.state, result.reason) == ("unknown", "microphone_absent")


def test_only_a_configured_level_counts_as_off(bundle: Bundle, fault: F32) -> None:
    quiet = np.float32(0.01) * fault[: 20 * RATE_HZ]
    assert {result.state for result in run(Monitor(bundle), quiet)} == {"learning"}
    assert "idle" in {result.state for result in run(Monitor(bundle, idle=IdleConfig(below_dbfs=-50.0)), quiet)}


def test_the_shipped_base_bundles_are_small_and_belong_to_no_machine(root: Path) -> None:
    for name, rate_hz in (("base", 16_000), ("base-wide", 44_100)):
        bundle = load_bundle(root / "models" / name)
        assert (bundle.is_base, bundle.expected, bundle.manifest.front_end.sample_rate_hz) == (True, None, rate_hz)
        assert len(bundle.manifest.detector.components) == 3
        assert sum(path.stat().st_size for path in (root / "models" / name).rglob("*")) < 300_000


def test_the_key_is_true_or_missing(base_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base_bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "base": False}))
    with pytest.raises(ValueError, match=r"base: Input should be True"):
        load_bundle(copy)
