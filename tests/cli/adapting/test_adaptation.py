"""`monitor learn` and `monitor calibrate` on recordings: accepted and refused sound, messages, resulting bundles."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from monitor.arrays import F32
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.cli.adapting.tick_input import TickCollector
from monitor.cli.main import main
from monitor.config import load_config
from monitor.daemon.bundles.adaptations import FOLDER, in_use
from monitor.learning.false_alarms import count_events
from monitor.learning.learn import default_detector
from monitor.learning.rescore import ProfiledTick, profiles
from tests.cli.bench import RATE_HZ, Bench, made, ratios, tilted
from tests.conftest import ROOT
from tests.tmpfs import tmpfs
from train.recipes.recipe import load_recipe

LONG = bool(os.environ.get("LONG_TESTS"))


def changed(change: str, samples: F32) -> F32:
    return np.asarray(2.0 * samples if change == "gain" else tilted(samples, low_db=-3.0, high_db=8.0), np.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("gain", "level +5.9 dB: microphone or gain seems to have changed"),
        ("tilt", "the microphone or its position seems to have"),
    ],
)
def test_another_microphone_is_named_and_corrected(bench: Bench, change: str, named: str) -> None:
    before = bench.ratios(changed(change, made("fan", take=71)))
    assert np.median(before) > 1.0
    files = {path: path.read_bytes() for path in bench.bundle.iterdir() if path.is_file()}
    assert named in bench.run("calibrate", "--from", bench.sound(changed(change, made("fan", take=70, seconds=90.0))))
    assert {path: path.read_bytes() for path in files} == files
    assert bench.used().manifest.golden != load_bundle(bench.bundle).manifest.golden
    assert bench.ratios(changed(change, made("fan", take=71))).max() < 1.0
    faulty = bench.ratios(changed(change, made("fan", take=72, fault="bearing")))
    assert count_events(faulty, bench.used().manifest.rule) == 1
    assert np.median(faulty) > 3.0


def test_a_reader_that_leaves_does_not_undo_it(bench: Bench) -> None:
    words = ("--config", str(bench.folder / "monitor.yaml"), "calibrate", "--from", str(bench.sound(made("fan", take=70))))
    command = [sys.executable, "-u", "-m", "monitor.cli.main", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0
    assert bench.used().id != load_bundle(bench.bundle).id


def test_bandwidth_lost_by_resampling_is_not_a_difference_of_the_machine(bench: Bench) -> None:
    """Sound resampled from 44.1 kHz lacks the band below half the bundle's rate."""
    resampled = soxr.resample(soxr.resample(made("fan", take=70, seconds=90.0), RATE_HZ, 44_100), 44_100, RATE_HZ)
    assert "have not changed since training" in bench.run("calibrate", "--from", bench.sound(resampled))
    assert bench.ratios(resampled).max() < 1.0
    assert count_events(bench.ratios(made("fan", take=72, fault="bearing")), bench.used().manifest.rule) == 1


def test_a_bundle_that_was_calibrated_elsewhere_is_calibrated_again(bench: Bench) -> None:
    """The reported and corrected differences are relative to training."""
    first, again = bench.folder / "first", bench.folder / "again"
    sound = bench.sound(made("fan", take=70, seconds=90.0))
    louder = bench.sound(2.0 * made("fan", take=70, seconds=90.0), "louder")
    bench.run("calibrate", "--model", bench.bundle, "--from", louder, "--out", first)
    assert "level +5.9 dB: microphone or gain" in bench.run("calibrate", "--model", first, "--from", louder, "--out", again)
    response = response_db(load_bundle(again))
    assert response is not None
    assert np.median(response) == pytest.approx(6.02, abs=0.5)
    assert "have not changed since training" in bench.run("calibrate", "--model", first, "--from", sound, "--out", again)
    assert response_db(load_bundle(again)) is None
    assert ratios(load_bundle(again), Recording(sound, sample_rate_hz=RATE_HZ)).max() < 1.0


def response_db(bundle: Bundle) -> F32 | None:
    assert bundle.statistics is not None
    return bundle.statistics.response_db


def test_an_unchanged_microphone_is_reported_as_such(bench: Bench) -> None:
    assert "microphone and gain have not changed since training" in bench.run(
        "calibrate", "--from", bench.sound(made("fan", take=70))
    )
    assert bench.used().manifest.calibration.threshold >= load_bundle(bench.bundle).manifest.calibration.threshold
    assert response_db(bench.used()) is None


@pytest.mark.parametrize("machine", ["pump", "valve", "another fan"])
def test_another_machine_is_refused_unless_forced(bench: Bench, machine: str) -> None:
    samples = made("fan", seed=1, seconds=90.0) if machine == "another fan" else made(machine, seconds=90.0)
    refusal = bench.run("calibrate", "--from", bench.sound(samples), status=1)
    assert "the sound does not match the trained machine" in refusal
    assert bench.used().id == load_bundle(bench.bundle).id
    bench.run("calibrate", "--force", "--from", bench.sound(samples))
    assert count_events(bench.ratios(samples), bench.used().manifest.rule) == 0


def test_a_machine_that_is_off_for_a_third_of_the_time_is_refused(bench: Bench) -> None:
    gearbox = bench.sound(made("gearbox", seconds=90.0))  # its idle level is below the one at which the demo's fan is off
    assert "31% of the audio is unusable, mostly idle" in bench.run("calibrate", "--from", gearbox, status=1)


def test_a_fault_present_from_the_start_is_refused(bench: Bench) -> None:
    faulty = made("fan", take=73, seconds=90.0, fault="imbalance")
    assert "does not match the trained machine" in bench.run("calibrate", "--from", bench.sound(faulty), status=1)


def test_abnormal_sound_is_excluded(bench: Bench) -> None:
    fault = made("fan", take=74, seconds=15.0, fault="bearing")
    normal = made("fan", take=75, seconds=300.0)
    output = bench.run("calibrate", "--from", bench.sound(2.0 * np.concatenate((normal[: 100 * RATE_HZ], fault, normal))))
    assert "are above the threshold and were left out" in output
    mixed = bench.used().manifest.calibration.threshold
    bench.run("calibrate", "--from", bench.sound(np.concatenate((2.0 * normal[: 100 * RATE_HZ], 2.0 * normal))))
    assert mixed == pytest.approx(bench.used().manifest.calibration.threshold, rel=0.02)


def test_a_pump_is_learned_with_the_shipped_fans_network(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    """Learned from half an hour at one flow, then tested on hours of it and on faults."""
    minutes, hours = (30, 3.0) if LONG else (8, 0.25)
    pump = made("pump", seed=3, seconds=60 * minutes + 3600 * hours)
    first, later = np.split(pump, [60 * minutes * RATE_HZ])
    output = bench.run("learn", "--yes", "--from", bench.sound(first))
    assert "learned from " in output
    assert "no false events, so the rate is below" in output
    bundle = bench.used()
    assert bundle.model == load_bundle(bench.bundle).model
    assert bundle.manifest.detector.components == default_detector(64).components
    normal = bench.ratios(later)
    assert count_events(normal, bundle.manifest.rule) == 0
    for fault in ("bearing", "cavitation", "rattle", "leak"):
        faulty = bench.ratios(made("pump", seed=3, fault=fault))
        auc = float(np.mean(faulty[:, None] > normal[None, :]))
        n_events = count_events(faulty, bundle.manifest.rule)
        record_property("figures", f"{fault}: AUC {auc:.3f}, median {np.median(faulty):.1f} x the threshold, {n_events} event")
        assert auc > 0.95
        assert n_events == 1
    record_property("figures", f"{len(normal)} normal segments: at most {normal.max():.2f} x the threshold, no event")


def test_a_learned_bundle_names_impulses(bench: Bench) -> None:
    """It has the levels and envelope spectra of the sound that was not excluded, and they survive a calibration."""
    pump = made("pump", seconds=420.0)
    pump[200 * RATE_HZ : 220 * RATE_HZ] = made("pump", take=1, seconds=20.0, fault="cavitation")
    assert "dropped as outliers" in bench.run("learn", "--yes", "--from", bench.sound(pump))
    bench.run("calibrate", "--from", bench.sound(made("pump", seconds=60.0)))
    normal = made("pump", take=3)
    assert [event.impulses_hz for event in bench.events(normal, threshold=1e-6)] == [None]
    t = np.arange(len(normal)) / RATE_HZ
    struck = np.exp(-(t * 37.0 % 1.0) / 37.0 / 0.002) * np.sin(2 * np.pi * 3100.0 * t)
    (event,) = bench.events(normal + 0.5 * normal.std() * struck.astype(np.float32) / struck.std().astype(np.float32))
    assert event.impulses_hz == pytest.approx(37.0, rel=0.01)
    assert event.bands[0].low_hz < 3100.0 < event.bands[0].high_hz


def test_profiles_of_excluded_sound_do_not_count() -> None:
    spec = load_recipe("default").scorer_spec
    ears = TickCollector(spec)
    ears.push(Block(0, made("pump", seconds=60.0)))
    ticks = ears.end()
    n = spec.segment_ticks
    assert [tick.stop for tick in ticks if isinstance(tick, ProfiledTick)] == [tick.stop for tick in ticks[n - 1 :: n]]
    assert len(profiles([ticks])) == len(ticks) // n
    assert len(profiles([ticks[:n], ticks[n + 1 : 3 * n + 1]])) == 2  # the second segment lacks its first tick


def test_recordings_of_several_days_widen_the_normal_range(bench: Bench) -> None:
    """The pump has another flow in each."""
    recordings = [bench.sound(made("pump", seed=3, take=take, seconds=45.0), f"day-{take}") for take in range(9)]
    bench.run("learn", "--yes", "--from", *recordings)
    rule = bench.used().manifest.rule
    other_days = [bench.ratios(made("pump", seed=3, take=100 + take)) for take in range(6)]
    assert sum(count_events(one, rule) for one in other_days) == 0
    assert count_events(bench.ratios(made("pump", seed=3, take=200, fault="bearing")), rule) == 1


def test_outliers_are_named_and_excluded(bench: Bench) -> None:
    pump = made("pump", seconds=480.0)
    pump[200 * RATE_HZ : 220 * RATE_HZ] = made("pump", take=1, seconds=20.0, fault="cavitation")
    assert "dropped as outliers: 00:03:" in bench.run("learn", "--yes", "--from", bench.sound(pump))
    assert np.median(bench.ratios(made("pump", fault="cavitation"))) > 3.0


def test_a_machine_that_does_not_run_steadily_is_refused(bench: Bench) -> None:
    parts = [made("pump", seconds=80.0)] * 6
    for number, fault in enumerate(("leak", "bearing", "cavitation", "rattle", "imbalance")):
        parts.insert(2 * number + 1, made("pump", take=number, seconds=21.0, fault=fault))
    output = bench.run("learn", "--yes", "--from", bench.sound(np.concatenate(parts)), status=1)
    assert "so the machine did not run as usual" in output


@pytest.mark.parametrize(
    ("words", "samples", "status", "message"),
    [
        (("learn", "--yes"), made("fan", seconds=60.0), 1, "at least 5 min of usable sound is needed, got"),
        (("calibrate",), made("fan", seconds=20.0), 1, "at least 45 s of usable sound is needed, got"),
        (("learn", "--yes"), np.zeros(400 * RATE_HZ, np.float32), 1, "100% of the audio is unusable, mostly silent"),
        (("calibrate",), np.sign(made("fan")), 1, "100% of the audio is unusable, mostly clipped"),
        (("learn",), made("fan", seconds=10.0), 2, "confirm that the machine runs normally: give --yes"),
        (("calibrate", "--machine", "saw"), made("fan", seconds=10.0), 2, "--machine must be one of fan, got saw"),
    ],
)
def test_unusable_sound_is_refused_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], samples: F32, status: int, message: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    assert message in bench.run(*words, "--from", bench.sound(samples), status=status)
    assert bench.used().id == load_bundle(bench.bundle).id


def test_each_step_is_undone_by_the_same_command(bench: Bench) -> None:
    configured = bench.used().id
    bench.run("learn", "--yes", "--from", bench.sound(made("pump", seconds=320.0)))
    learned = bench.used().id
    bench.run("calibrate", "--from", bench.sound(2.0 * made("pump", seconds=60.0)))
    bench.run("calibrate", "--from", bench.sound(2.0 * made("pump", seconds=60.0)))
    calibrated = bench.used()
    assert calibrated.manifest.provenance.adapted is not None
    assert calibrated.manifest.provenance.adapted.of == learned  # not of the calibration before
    assert f"calibration undone; {learned} is in use" in bench.run("calibrate", "--undo")
    assert f"learning undone; {configured} is in use" in bench.run("calibrate", "--undo")
    assert "nothing was learned or calibrated here for fan" in bench.run("calibrate", "--undo", status=2)
    assert sorted(path.name for path in (bench.state / FOLDER / "fan").iterdir()) == ["in-use.json", "lock"]
    done = [entry["did"] for entry in json.loads((bench.state / FOLDER / "fan" / "in-use.json").read_text())["log"]]
    assert done == ["learn", "calibrate", "calibrate", "undo", "undo"]


@pytest.mark.parametrize("more", ["--minutes 5", "--from x.wav", "--channel 1", "--out x"])
def test_undo_accepts_no_other_option(bench: Bench, more: str) -> None:
    words = ["--config", str(bench.folder / "monitor.yaml"), "calibrate", "--undo", *more.split()]
    try:
        status = main(words)
    except SystemExit as ended:  # argparse
        status = int(ended.code or 0)
    output = "\n".join((*bench.output()[1].splitlines(), *bench.log.messages))
    assert status == 2
    assert "--undo" in output.splitlines()[-1]
    assert "nothing was learned" not in output


def test_with_another_configured_bundle_it_no_longer_counts(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    assert "made by monitor calibrate from demo-fan@" in bench.run("check-config")
    manifest = json.loads((bench.bundle / "manifest.json").read_text())
    (bench.bundle / "manifest.json").write_text(json.dumps(manifest | {"created": "2026-11-22T00:00:00Z"}))
    assert bench.used().id == load_bundle(bench.bundle).id
    assert "ignoring the adapted bundle" in caplog.text


def test_a_damaged_adapted_bundle_is_reported_and_the_configured_one_used(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    (adapted,) = (bench.state / FOLDER / "fan").glob("calibrate-*")
    (adapted / "statistics.npz").write_bytes(b"damaged")
    assert bench.used().id == load_bundle(bench.bundle).id
    assert "the adapted bundle cannot be used" in caplog.text


def test_a_full_disk_leaves_the_old_bundle_in_use(bench: Bench) -> None:
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    with tmpfs(bench.folder, n_bytes=400_000) as small:
        shutil.copytree(bench.state, small, dirs_exist_ok=True)
        used = in_use(small, "fan", load_bundle(bench.bundle)).id
        filler = small / "filler"
        filler.write_bytes(b"x" * (shutil.disk_usage(small).free - 20_000))
        text = (bench.folder / "monitor.yaml").read_text()
        (bench.folder / "monitor.yaml").write_text(text.replace("state_dir: state", f"state_dir: {small}"))
        output = bench.run("calibrate", "--from", bench.sound(made("fan", take=1)), status=1)
        assert "No space left on device; the old bundle stays" in output
        assert in_use(small, "fan", load_bundle(bench.bundle)).id == used


def test_out_does_not_change_the_service(bench: Bench) -> None:
    out = bench.folder / "pump"
    bench.run("learn", "--yes", "--model", bench.bundle, "--from", bench.sound(made("pump", seconds=320.0)), "--out", out)
    assert load_bundle(out).manifest.name == "pump"
    assert not bench.state.exists()


def test_the_components_are_those_of_the_default_recipe() -> None:
    recipe = load_recipe("default").detector
    assert default_detector(128).model_dump() == recipe.model_dump()


def test_sudo_finds_the_services_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/var/lib/stethos")
    assert load_config(None, {}).state_dir == Path("/var/lib/stethos")
