"""Synthetic machines have the properties that they claim."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from monitor.arrays import F32, F64
from train.cli.main import main as train
from train.synth import FAULTS, MACHINES, Fan, Gearbox, Growth, Pump, Scene, Valve

FAN = Fan(3)


def sound(seconds: float = 20.0, **what: object) -> F32:
    return np.concatenate(list(Scene(machine=FAN, **what).chunks(seconds)))  # type: ignore[arg-type]


def spectrum(samples: F32) -> tuple[F64, F64]:
    hz, power = signal.welch(samples, FAN.sample_rate_hz, nperseg=16384)
    return hz, 10 * np.log10(power)


def prominence_db(samples: F32, at_hz: float, around_hz: float = 6.0) -> float:
    """How far a line stands out of its surroundings."""
    hz, level_db = spectrum(samples)
    near = np.abs(hz - at_hz) < 1.5
    around = (np.abs(hz - at_hz) > 2.5) & (np.abs(hz - at_hz) < around_hz)
    return float(level_db[near].max() - np.median(level_db[around]))


def test_shaft_and_blade_pass_lines_stand_out() -> None:
    samples = sound()
    for order in (FAN.n_blades, 2 * FAN.n_blades):
        assert prominence_db(samples, order * FAN.shaft_hz) > 10


def test_flow_noise_falls_with_frequency() -> None:
    hz, level_db = spectrum(sound())
    octaves = [level_db[(hz > f) & (hz < 2 * f)].mean() for f in (500, 1000, 2000, 3900)]
    assert all(lower < higher for higher, lower in pairwise(octaves))


def test_the_speed_drifts_slowly_and_little() -> None:
    t = np.arange(0, 600, 0.01)
    speed_hz = np.diff(FAN.shaft_phase(t, take=0)) / 0.01 / (2 * np.pi)
    assert 1e-4 < speed_hz.std() / FAN.shaft_hz < FAN.drift
    assert np.abs(speed_hz / FAN.shaft_hz - 1).max() <= FAN.drift
    assert np.abs(np.diff(speed_hz)).max() < 1e-3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_grows_and_ends(fault: str) -> None:
    clean = sound(40)
    faulty = sound(40, fault=fault, growth=Growth(start_s=10, grow_s=10, repaired_s=30))
    difference = (faulty - clean).reshape(40, -1)
    level = np.sqrt(np.mean(difference**2, axis=1))
    assert not level[:10].any()
    assert level[13] < level[19] <= level[20:30].max() * 1.2
    assert level[20:30].min() > 1e-3
    assert level[31:].max() < 1e-4  # the room has gone quiet


def test_bearing_impulses_come_at_the_defect_rate() -> None:
    difference = sound(20, fault="bearing") - sound(20)
    envelope = np.abs(signal.hilbert(difference))
    hz, power = signal.welch(envelope - envelope.mean(), FAN.sample_rate_hz, nperseg=65536)
    audible = (hz > 40) & (hz < 200)
    assert hz[audible][power[audible].argmax()] == pytest.approx(3.58 * FAN.shaft_hz, rel=0.01)


def test_bangs_are_loud_short_and_never_close() -> None:
    with_bangs, without = sound(600, bangs_per_hour=60), sound(600)
    energy = np.sqrt(np.mean((with_bangs - without).reshape(6_000, -1) ** 2, axis=1))
    loud = np.flatnonzero(energy > 0.3 * without.std())
    starts = loud[np.diff(loud, prepend=-1000) > 20] / 10
    assert 9 <= len(starts) <= 10
    assert np.diff(starts).min() > 29


def test_the_sound_does_not_depend_on_how_much_of_it_is_asked_for() -> None:
    assert np.array_equal(sound(9.3, bangs_per_hour=60), sound(20, bangs_per_hour=60)[: round(9.3 * 16000)])


def test_takes_differ_and_seeds_repeat() -> None:
    assert np.array_equal(sound(5), sound(5))
    assert not np.array_equal(sound(5), sound(5, take=1))


def test_the_command_writes_a_data_set_and_single_files(tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "2", "--seconds", "3"]) == 0
    assert (
        train(["synth", str(tmp_path / "set"), "--recordings", "1", "--seconds", "3", "--fault", "rubbing", "--format", "wav"])
        == 0
    )
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        *("set/anomaly/0000.wav", "set/normal/0000.flac", "set/normal/0001.flac"),
    ]
    assert soundfile.info(tmp_path / "set/normal/0000.flac").frames == 48_000
    assert train(["synth", str(tmp_path / "one.wav"), "--seconds", "2", "--sample-rate", "48000"]) == 0
    assert soundfile.info(tmp_path / "one.wav").samplerate == 48_000


@pytest.mark.parametrize("name", ["a.mp3", "a.OGG"])
def test_another_format_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not taken for the name of a data set's folder."""
    assert train(["synth", str(tmp_path / name), "--seconds", "1"]) == 2
    assert "must end in .wav or .flac" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("x.flac", "--recordings", "3"), "--recordings requires a data set, got one recording, "),
        (("x.flac", "--format", "wav"), "--format requires a data set, got one recording, "),
        (("x.wav", "--repaired-at", "3"), "--repaired-at requires --fault"),
        (("set", "--severity", "2"), "--severity requires --fault"),
        (("set", "--fault-at", "0"), "--fault-at requires --fault"),
        (
            ("set", "--fault", "bearing", "--fault-at", "50", "--seconds", "20"),
            "--fault-at must be below --seconds and --repaired-at (20), got 50",
        ),
        (
            ("x.wav", "--fault", "bearing", "--fault-at", "5", "--repaired-at", "5"),
            "--fault-at must be below --seconds and --repaired-at (5), got 5",
        ),
    ],
)
def test_what_would_be_ignored_or_never_heard_is_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["synth", str(tmp_path / options[0]), *options[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: error: {message}")
    assert not list(tmp_path.iterdir())


def test_more_bangs_than_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["synth", str(tmp_path / "x"), "--bangs-per-hour", "1000"]) == 2
    assert "--bangs-per-hour must be in 0..120, got 1000" in capsys.readouterr().err


@pytest.mark.parametrize("kind", MACHINES)
def test_every_machine_sounds_and_repeats_whatever_length_is_asked_for(kind: str) -> None:
    whole, part = (np.concatenate(list(Scene(machine=MACHINES[kind](1), take=2).chunks(seconds))) for seconds in (60.0, 9.3))
    assert np.array_equal(part, whole[: len(part)])
    assert 1e-3 < np.sqrt(np.mean(whole**2)) < 0.3
    assert np.abs(whole).max() < 1.0


def test_a_valve_knocks_twice_a_cycle() -> None:
    valve = Valve(1)
    envelope = np.abs(np.concatenate(list(Scene(machine=valve).chunks(30.0))))[: 30 * 16000].reshape(-1, 160).max(axis=1)
    peaks, _ = signal.find_peaks(envelope, height=envelope.max() / 3, distance=20)
    assert len(peaks) == pytest.approx(2 * valve.shaft_hz * 30, abs=2)


def test_a_gearbox_turns_as_fast_as_its_state_says_and_changes_smoothly() -> None:
    gearbox = Gearbox(1)
    t = np.arange(0, 400, 0.01)
    speed_hz = np.diff(gearbox.shaft_phase(t, take=0)) / 0.01 / (2 * np.pi)
    settled = {float(value) for value in np.round(speed_hz / gearbox.shaft_hz, 3)}
    assert {0.35, 0.7, 1.0} <= settled
    assert np.abs(np.diff(speed_hz)).max() < 0.02 * gearbox.shaft_hz


def test_a_pump_is_loudest_away_from_its_best_flow() -> None:
    pump = Pump(1)
    by_flow = sorted(range(12), key=lambda take: abs(pump.flow(take) - 1.0))
    levels = [np.std(np.concatenate(list(Scene(machine=pump, take=take).chunks(4.0)))) for take in (by_flow[0], by_flow[-1])]
    assert levels[1] > 1.1 * levels[0]
