"""`monitor learn` and `monitor calibrate` on recordings: what they accept, refuse, say, and what the bundle can do then."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.cli.adaptation_input import TickCollector
from monitor.cli.main import main
from monitor.config import load_config
from monitor.daemon.adaptations import FOLDER, in_use
from monitor.events.event import Anchor, Event, Identity
from monitor.events.pipeline import Pipeline
from monitor.learning.false_alarms import count_events
from monitor.learning.learn import default_detector
from monitor.learning.rescore import ProfiledTick, profiles
from monitor.scoring.scorer import score_stream
from tests.conftest import ROOT
from tests.tmpfs import tmpfs
from train.recipes.recipe import load_recipe
from train.synth import MACHINES, Growth, Scene

LONG = bool(os.environ.get("LONG_TESTS"))
RATE_HZ = 16_000
Say = Callable[[], tuple[str, str]]


def made(machine: str, *, seed: int = 0, take: int = 0, seconds: float = 60.0, fault: str | None = None) -> F32:
    """The sound of a synthetic machine; the demo's fan is fan 0."""
    scene = Scene(machine=MACHINES[machine](seed), take=take, fault=fault, growth=Growth())
    return np.concatenate(list(scene.chunks(seconds)))


def tilted(samples: F32, *, low_db: float, high_db: float) -> F32:
    """As by a microphone whose response goes from one to the other."""
    spectrum = np.fft.rfft(samples)
    gain_db = np.linspace(low_db, high_db, len(spectrum))
    return np.fft.irfft(spectrum * 10.0 ** (gain_db / 20.0), len(samples)).astype(np.float32)


@dataclass
class Bench:
    """A configured fan without a service, and sound for it."""

    folder: Path
    bundle: Path
    said: Say

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def sound(self, samples: F32, name: str = "sound") -> Path:
        path = self.folder / f"{name}.wav"
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
        return path

    def run(self, *words: object, status: int = 0) -> str:
        """`monitor WORDS…`; what it says on stdout, or on stderr where it fails."""
        assert main(["--config", str(self.folder / "monitor.yaml"), *map(str, words)]) == status
        out, err = self.said()
        return err.splitlines()[-1] if status else out

    def used(self) -> Bundle:
        return in_use(self.state, "fan", load_bundle(self.bundle))

    def events(self, samples: F32, *, threshold: float | None = None) -> list[Event]:
        """That begin in this sound, by the bundle in use; with a lower threshold whatever it is like."""
        bundle = self.used()
        pipeline = Pipeline(
            bundle.scorer(),
            threshold=threshold or bundle.manifest.calibration.threshold,
            rule=bundle.manifest.rule,
            expected=bundle.expected,
            identity=Identity(node="pi", machine="fan", bundle=bundle.id, session="0"),
            anchor=Anchor(utc=datetime(1970, 1, 1, tzinfo=timezone.utc), sample_rate_hz=RATE_HZ, synced=True),
        )
        steps = list(pipeline.push(Block(0, samples)))
        return [step.event for step in steps if step.event is not None and step.event.event_type == "start"]

    def ratios(self, samples: F32) -> F64:
        """Of the segments of this sound, by the bundle in use."""
        return ratios(self.used(), Recording(self.sound(samples, "judged"), sample_rate_hz=RATE_HZ))


def ratios(bundle: Bundle, recording: Recording) -> F64:
    ticks = score_stream(bundle.scorer(), recording.blocks())
    return np.array([tick.score for tick in ticks if tick.score is not None]) / bundle.manifest.calibration.threshold


@pytest.fixture
def bench(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    bundle = tmp_path / "demo-fan"
    shutil.copytree(demo_bundle, bundle)
    (tmp_path / "monitor.yaml").write_text("node: pi\nstate_dir: state\nruntime_dir: run\nmachines: {fan: {bundle: demo-fan}}\n")
    return Bench(tmp_path, bundle, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type,return-value]


def heard(change: str, samples: F32) -> F32:
    return np.asarray(2.0 * samples if change == "gain" else tilted(samples, low_db=-3.0, high_db=8.0), np.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("gain", "level +6.0 dB: microphone or gain seems to have changed"),
        ("tilt", "the microphone or its position seems to have"),
    ],
)
def test_another_microphone_is_named_and_corrected(bench: Bench, change: str, named: str) -> None:
    before = bench.ratios(heard(change, made("fan", take=71)))
    assert np.median(before) > 1.5
    files = {path: path.read_bytes() for path in bench.bundle.iterdir() if path.is_file()}
    assert named in bench.run("calibrate", "--from", bench.sound(heard(change, made("fan", take=70, seconds=90.0))))
    assert {path: path.read_bytes() for path in files} == files
    assert bench.used().manifest.golden != load_bundle(bench.bundle).manifest.golden
    assert bench.ratios(heard(change, made("fan", take=71))).max() < 1.0
    faulty = bench.ratios(heard(change, made("fan", take=72, fault="bearing")))
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


def test_what_resampling_takes_from_the_last_band_is_no_machines(bench: Bench) -> None:
    """Sound by way of 44.1 kHz lacks what is nearest to half the bundle's rate."""
    resampled = soxr.resample(soxr.resample(made("fan", take=70, seconds=90.0), RATE_HZ, 44_100), 44_100, RATE_HZ)
    assert np.median(bench.ratios(resampled)) > 1.0
    assert "microphone or gain seems to have changed" in bench.run("calibrate", "--from", bench.sound(resampled))
    assert bench.ratios(resampled).max() < 1.0
    assert count_events(bench.ratios(made("fan", take=72, fault="bearing")), bench.used().manifest.rule) == 1


def test_a_bundle_that_was_calibrated_elsewhere_is_calibrated_again(bench: Bench) -> None:
    """What it says then counts from training, and so does what is corrected."""
    first, again = bench.folder / "first", bench.folder / "again"
    sound = bench.sound(made("fan", take=70, seconds=90.0))
    louder = bench.sound(2.0 * made("fan", take=70, seconds=90.0), "louder")
    bench.run("calibrate", "--model", bench.bundle, "--from", louder, "--out", first)
    assert "level +6.0 dB: microphone or gain" in bench.run("calibrate", "--model", first, "--from", louder, "--out", again)
    assert response_db(load_bundle(again)) == pytest.approx(6.02, abs=0.5)
    assert "not changed since training" in bench.run("calibrate", "--model", first, "--from", sound, "--out", again)
    assert response_db(load_bundle(again)) is None
    assert ratios(load_bundle(again), Recording(sound, sample_rate_hz=RATE_HZ)).max() < 1.0


def response_db(bundle: Bundle) -> F32 | None:
    assert bundle.statistics is not None
    return bundle.statistics.response_db


def test_the_same_microphone_is_said_to_be_the_same(bench: Bench) -> None:
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
    gearbox = bench.sound(made("gearbox", seconds=90.0))  # idle, it is softer than what the demo's fan is off at
    assert "31% of the audio is unusable, mostly idle" in bench.run("calibrate", "--from", gearbox, status=1)


def test_a_fault_that_is_there_from_the_start_is_refused(bench: Bench) -> None:
    faulty = made("fan", take=73, seconds=90.0, fault="imbalance")
    assert "does not match the trained machine" in bench.run("calibrate", "--from", bench.sound(faulty), status=1)


def test_what_is_abnormal_is_not_learned_from(bench: Bench) -> None:
    fault = made("fan", take=74, seconds=15.0, fault="bearing")
    normal = made("fan", take=75, seconds=300.0)
    said = bench.run("calibrate", "--from", bench.sound(2.0 * np.concatenate((normal[: 100 * RATE_HZ], fault, normal))))
    assert "are above the threshold and were left out" in said
    mixed = bench.used().manifest.calibration.threshold
    bench.run("calibrate", "--from", bench.sound(np.concatenate((2.0 * normal[: 100 * RATE_HZ], 2.0 * normal))))
    assert mixed == pytest.approx(bench.used().manifest.calibration.threshold, rel=0.02)


def test_a_pump_is_learned_with_the_shipped_fans_network(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    """Half an hour at one flow; then hours more of it, and its faults."""
    minutes, hours = (30, 3.0) if LONG else (8, 0.25)
    pump = made("pump", seed=3, seconds=60 * minutes + 3600 * hours)
    first, later = np.split(pump, [60 * minutes * RATE_HZ])
    said = bench.run("learn", "--yes", "--from", bench.sound(first))
    assert "learned from " in said
    assert "no false events, which proves only a rate below" in said
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


def test_what_was_learned_names_impulses(bench: Bench) -> None:
    """A learned bundle knows levels and envelope spectra, of what was not left out, and they survive a calibration."""
    pump = made("pump", seconds=420.0)
    pump[200 * RATE_HZ : 220 * RATE_HZ] = made("pump", take=1, seconds=20.0, fault="cavitation")
    assert "left out as different from the rest" in bench.run("learn", "--yes", "--from", bench.sound(pump))
    bench.run("calibrate", "--from", bench.sound(made("pump", seconds=60.0)))
    normal = made("pump", take=3)
    assert [event.impulses_hz for event in bench.events(normal, threshold=1e-6)] == [None]
    t = np.arange(len(normal)) / RATE_HZ
    struck = np.exp(-(t * 37.0 % 1.0) / 37.0 / 0.002) * np.sin(2 * np.pi * 3100.0 * t)
    (event,) = bench.events(normal + 0.5 * normal.std() * struck.astype(np.float32) / struck.std().astype(np.float32))
    assert event.impulses_hz == pytest.approx(37.0, rel=0.01)
    assert event.bands[0].low_hz < 3100.0 < event.bands[0].high_hz


def test_profiles_of_what_was_left_out_do_not_count() -> None:
    spec = load_recipe("default").scorer_spec
    ears = TickCollector(spec)
    ears.push(Block(0, made("pump", seconds=60.0)))
    ticks = ears.end()
    n = spec.segment_ticks
    assert [tick.stop for tick in ticks if isinstance(tick, ProfiledTick)] == [tick.stop for tick in ticks[n - 1 :: n]]
    assert len(profiles([ticks])) == len(ticks) // n
    assert len(profiles([ticks[:n], ticks[n + 1 : 3 * n + 1]])) == 2  # the second segment lacks its first tick


def test_recordings_of_other_days_teach_what_is_usual_between_them(bench: Bench) -> None:
    """A pump is at another flow in each."""
    recordings = [bench.sound(made("pump", seed=3, take=take, seconds=45.0), f"day-{take}") for take in range(9)]
    bench.run("learn", "--yes", "--from", *recordings)
    rule = bench.used().manifest.rule
    other_days = [bench.ratios(made("pump", seed=3, take=100 + take)) for take in range(6)]
    assert sum(count_events(one, rule) for one in other_days) == 0
    assert count_events(bench.ratios(made("pump", seed=3, take=200, fault="bearing")), rule) == 1


def test_what_is_unlike_the_rest_is_named_and_not_learned(bench: Bench) -> None:
    pump = made("pump", seconds=480.0)
    pump[200 * RATE_HZ : 220 * RATE_HZ] = made("pump", take=1, seconds=20.0, fault="cavitation")
    assert "left out as different from the rest: 00:03:" in bench.run("learn", "--yes", "--from", bench.sound(pump))
    assert np.median(bench.ratios(made("pump", fault="cavitation"))) > 3.0


def test_a_machine_that_does_not_run_as_always_is_refused(bench: Bench) -> None:
    parts = [made("pump", seconds=80.0)] * 6
    for number, fault in enumerate(("leak", "bearing", "cavitation", "rattle", "imbalance")):
        parts.insert(2 * number + 1, made("pump", take=number, seconds=21.0, fault=fault))
    said = bench.run("learn", "--yes", "--from", bench.sound(np.concatenate(parts)), status=1)
    assert "so the machine did not run as usual" in said


@pytest.mark.parametrize(
    ("words", "samples", "status", "message"),
    [
        (("learn", "--yes"), made("fan", seconds=60.0), 1, "at least 5 min of usable sound is needed, got"),
        (("calibrate",), made("fan", seconds=20.0), 1, "at least 45 s of usable sound is needed, got"),
        (("learn", "--yes"), np.zeros(400 * RATE_HZ, np.float32), 1, "100% of the audio is unusable, mostly silent"),
        (("calibrate",), np.sign(made("fan")), 1, "100% of the audio is unusable, mostly clipped"),
        (("learn",), made("fan", seconds=10.0), 2, "somebody must confirm that the machine runs normally: --yes"),
        (("calibrate", "--machine", "saw"), made("fan", seconds=10.0), 2, "--machine must be one of fan, got saw"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_one_line(
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


@pytest.mark.parametrize("more", ["--minutes 5", "--from x.wav", "--channel 1", "--force", "--out x"])
def test_what_undoing_has_no_use_for_is_refused(bench: Bench, more: str) -> None:
    words = ["--config", str(bench.folder / "monitor.yaml"), "calibrate", "--undo", *more.split()]
    try:
        status = main(words)
    except SystemExit as ended:  # argparse
        status = int(ended.code or 0)
    said = bench.said()[1]
    assert status == 2
    assert "--undo" in said.splitlines()[-1]
    assert "nothing was learned" not in said


def test_with_another_configured_bundle_it_no_longer_counts(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    assert "made by monitor calibrate of demo-fan@" in bench.run("check-config")
    manifest = json.loads((bench.bundle / "manifest.json").read_text())
    (bench.bundle / "manifest.json").write_text(json.dumps(manifest | {"created": "2026-11-22T00:00:00Z"}))
    assert bench.used().id == load_bundle(bench.bundle).id
    assert "ignored" in caplog.text


def test_a_damaged_one_is_said_and_the_configured_one_is_used(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
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
        said = bench.run("calibrate", "--from", bench.sound(made("fan", take=1)), status=1)
        assert "No space left on device; the old bundle stays" in said
        assert in_use(small, "fan", load_bundle(bench.bundle)).id == used


def test_elsewhere_leaves_the_service_alone(bench: Bench) -> None:
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
