"""A recipe follows the recordings' rate, and what a microphone does above 8 kHz is no anomaly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import yaml

from monitor.arrays import F32
from monitor.bundle import load_bundle
from monitor.errors import ConfigError
from tests.replay.command import monitor
from tests.train.recipes.test_recipes import quick
from train.cli.main import main as train
from train.recipes.recipe import load_recipe
from train.synth import MACHINES, Scene

RATE_HZ = 48_000
NOISE = 1e-4  # -80 dBFS, white: all that is above 8 kHz
N_TRAINING, TRAINING_S, TEST_S = 16, 15.0, 35.0
RECIPES = ("wide", "default")


def recording(take: int, seconds: float, *, noise_db: float = 0.0) -> F32:
    """A fan that ends at 8 kHz, heard by a microphone at 48 kHz whose noise is so much louder."""
    fan = np.concatenate(list(Scene(machine=MACHINES["fan"](5), take=take).chunks(seconds)))
    draw = np.random.default_rng(take)
    tilted = np.convolve(fan, [1.0, draw.normal(0.0, 0.1)])[: len(fan)]  # recordings differ by a decibel or so
    heard = soxr.resample(tilted, 16_000, RATE_HZ)
    noise = draw.standard_normal(len(heard))
    return np.asarray(heard + NOISE * 10 ** (noise_db / 20) * noise, np.float32)


def by_way_of(samples: F32, rate_hz: int) -> F32:
    return np.asarray(soxr.resample(soxr.resample(samples, RATE_HZ, rate_hz), rate_hz, RATE_HZ), np.float32)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rates")
    (folder / "set/normal").mkdir(parents=True)
    for take in range(N_TRAINING):
        soundfile.write(folder / f"set/normal/{take:03d}.flac", recording(take, TRAINING_S), RATE_HZ)
    for name in RECIPES:
        recipe = quick(name, folder, epochs=8, batch_size=64)
        assert train(["fit", str(folder / "set"), "--recipe", str(recipe), "--out", str(folder / name)]) == 0
    return {name: folder / name for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("what", "sound", "verdict"),
    [
        ("as it was", lambda take: recording(take, TEST_S), {"normal"}),
        ("noise that moves by 1 dB", lambda take: recording(take, TEST_S, noise_db=1.0), {"normal"}),
        ("noise that falls by 1 dB", lambda take: recording(take, TEST_S, noise_db=-1.0), {"normal"}),
        ("a gain of 1 dB", lambda take: recording(take, TEST_S) * np.float32(10 ** (1 / 20)), {"normal"}),
        ("once 44.1 kHz", lambda take: by_way_of(recording(take, TEST_S), 44_100), {"normal"}),
        ("once 16 kHz", lambda take: by_way_of(recording(take, TEST_S), 16_000), {"unknown", "normal"}),
    ],
)
def test_what_a_microphone_does_is_no_anomaly(
    name: str,
    what: str,
    sound: Callable[[int], F32],
    verdict: set[str],
    bundles: dict[str, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    paths = [tmp_path / f"{take}.flac" for take in (100, 101, 102)]
    for path in paths:
        soundfile.write(path, sound(int(path.stem)), RATE_HZ, subtype="PCM_24")
    ran = monitor("--replay", *paths, "--model", bundles[name])
    ratios = [file["ratio"] for file in ran.files]
    record_property("figures", f"{name}, {what}: file ratios {ratios}")
    assert ran.events == []
    assert {file["verdict"] for file in ran.files} <= verdict
    if what == "once 16 kHz" and name == "wide":
        assert {(file["verdict"], file["reason"]) for file in ran.files} == {("unknown", "bandwidth")}


def test_a_fault_in_the_noises_band_is_an_anomaly(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A leak: noise above 10 kHz, 10 dB over the microphone's."""
    samples = recording(100, TEST_S)
    leak = np.fft.rfft(np.random.default_rng(1).standard_normal(len(samples)))
    leak[: int(10_000 * len(samples) / RATE_HZ)] = 0.0
    samples += np.float32(10 ** (10 / 20) * NOISE) * np.fft.irfft(leak, len(samples)).astype(np.float32)
    soundfile.write(tmp_path / "leak.flac", samples, RATE_HZ, subtype="PCM_24")
    wide, default = (monitor("--replay", tmp_path / "leak.flac", "--model", bundles[name]) for name in RECIPES)
    assert wide.files[0]["verdict"] == "anomaly"
    assert [event["event_type"] for event in wide.events][:1] == ["start"]
    assert (default.files[0]["verdict"], default.events) == ("normal", [])


def test_a_bundle_listens_at_the_lowest_rate_of_its_recordings(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_bundle(bundles["wide"]).manifest.front_end.sample_rate_hz == 48_000
    (tmp_path / "set/normal").mkdir(parents=True)
    for take in range(8):
        rate_hz = 44_100 if take % 2 else 96_000
        samples = np.asarray(soxr.resample(recording(take, TRAINING_S), RATE_HZ, rate_hz), np.float32)
        soundfile.write(tmp_path / f"set/normal/{take}.flac", samples, rate_hz)
    recipe = quick("wide", tmp_path, epochs=1)
    assert train(["fit", str(tmp_path / "set"), "--recipe", str(recipe), "--out", str(tmp_path / "mixed")]) == 0
    assert "train: sample rate 44100 Hz: the recordings have 44100 to 96000 Hz" in capsys.readouterr().err
    front_end = load_bundle(tmp_path / "mixed").manifest.front_end
    assert (front_end.sample_rate_hz, front_end.n_fft, front_end.hop_length) == (44_100, 4096, 1411)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_a_recipe_lasts_as_long_at_any_rate(rate_hz: int) -> None:
    recipe = load_recipe("wide").at(rate_hz)
    front_end = recipe.front_end
    assert front_end.sample_rate_hz == min(rate_hz, 48_000)
    assert front_end.n_fft / front_end.sample_rate_hz == pytest.approx(0.093, rel=0.02)
    assert front_end.hop_length / front_end.sample_rate_hz == pytest.approx(0.032, rel=0.002)
    assert (recipe.tick_frames, recipe.segment_ticks) == (32, 10)
    assert recipe.tick_s == pytest.approx(1.024, rel=0.002)


def test_a_fixed_recipe_stays_as_it_is() -> None:
    assert load_recipe("default").at(48_000) == load_recipe("default")


def test_a_rate_that_is_too_low_for_the_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"recordings at 2000 Hz do not suit the recipe: n_mels must be in 1\.\.90, got 128"):
        load_recipe("wide").at(2_000)


def test_a_hop_of_1024_at_44_khz_has_ticks_of_a_second(tmp_path: Path) -> None:
    path = quick("default", tmp_path)
    content = yaml.safe_load(path.read_text())
    content["front_end"] |= {"sample_rate_hz": 44_100, "n_fft": 2048, "hop_length": 1024}
    path.write_text(yaml.safe_dump(content))
    recipe = load_recipe(str(path))
    assert (recipe.tick_frames, recipe.segment_ticks) == (44, 10)


def test_a_model_of_somebody_elses_needs_a_fixed_rate(
    demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(demo_bundle / "model.tflite")
    assert train(["import-model", model, "--recipe", "wide", "--out", str(tmp_path / "out"), "--threshold", "5"]) == 2
    assert "--recipe must have a fixed rate" in capsys.readouterr().err
