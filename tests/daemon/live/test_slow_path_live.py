"""The state of the slow path over restarts of the real daemon, with a real microphone and broker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.bundle import load_bundle
from monitor.events.slow_path import HOURS, N_BLOCKS
from tests.daemon.deaf_fan import RATE_HZ, Service, running_service

WORDS = "slow_paths.json"


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[Service]:
    with running_service(tmp_path, demo_bundle, demo_normal) as running:
        entry = f"{{bundle: {demo_bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}, channel: 1}}"
        mqtt = f"mqtt: {{port: {running.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}"
        running.daemon.config.write_text(f"node: pi\n{mqtt}\nmachines:\n  fan: {entry}\n")
        yield running


def write_state(service: Service, *, bundle_id: str, n_medians: int, score: float = 1.0) -> Path:
    path = service.daemon.folder / "state" / WORDS
    path.parent.mkdir(exist_ok=True)
    n_bands = load_bundle(service.bundle).manifest.front_end.n_bands
    squares = [n_medians * 0.01] * n_bands
    one = {"medians": [score] * n_medians, "level_sum": [0.0] * n_bands, "shape_squares": squares, "minutes": []}
    path.write_text(json.dumps({"machines": {"fan": {"bundle": bundle_id, "conditions": {"any": one}}}}))
    return path


def medians(path: Path) -> list[float]:
    return list(json.loads(path.read_text())["machines"]["fan"]["conditions"]["any"]["medians"])


def test_what_was_learned_is_kept_until_a_person_starts_it_anew(service: Service) -> None:
    path = write_state(service, bundle_id=load_bundle(service.bundle).id, n_medians=N_BLOCKS - 2)
    service.daemon.start().ready()
    service.until_state(slow_path="learning", slow_path_missing_h=0.5, slow_path_ratio=None)
    service.restart()
    service.until_state(state="normal", slow_path="learning", slow_path_missing_h=0.5)
    assert len(medians(path)) == N_BLOCKS - 2
    for payload, why in (
        ('{"reference": true, "undo": true}', "reference must be given without undo and force"),
        ('{"reference": 1}', "reference"),
    ):
        assert why in service.order("calibrate", payload)["reason"], payload
    answer = service.order("calibrate", '{"reference": true, "request": "r1"}')
    assert (answer["accepted"], answer["request"]) == (True, "r1")
    service.until_state(slow_path="learning", slow_path_missing_h=HOURS)
    service.until(lambda: medians(path) == [], "the state on the disk")
    service.restart()
    service.until_state(slow_path="learning", slow_path_missing_h=HOURS)
    assert f"slow path: learning the normal level for {HOURS:.1f} h" in service.daemon.log


def test_another_bundle_starts_anew_and_a_broken_file_is_no_obstacle(service: Service) -> None:
    path = write_state(service, bundle_id="fan@000000000000", n_medians=N_BLOCKS)
    service.daemon.start().ready()
    service.until_state(slow_path="learning", slow_path_missing_h=HOURS)
    service.daemon.stop()
    path.write_text('{"machines": {"fan": {"bundle": "x", "conditions": {"any": {"medians": [NaN]}}}}}')
    service.daemon.told.clear()
    service.daemon.start().ready()
    service.until_state(slow_path="learning", slow_path_missing_h=HOURS)
    assert "the learned normal levels are lost" in service.daemon.log


def test_a_level_far_above_that_of_training_asks_to_learn_again(service: Service) -> None:
    bundle = load_bundle(service.bundle)
    typical = bundle.manifest.calibration.score_mean
    assert typical is not None
    write_state(service, bundle_id=bundle.id, n_medians=N_BLOCKS, score=2.5 * typical)
    service.daemon.start().ready()
    service.until_state(state="normal", slow_path="learn_again", slow_path_missing_h=0.0)
    assert service.daemon.log.count("run monitor learn") == 1
