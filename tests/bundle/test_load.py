"""A bundle is accepted whole or refused with one line that names the check."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.bundle.load import sha256
from monitor.bundle.statistics import read_statistics, write_statistics
from monitor.bundle.write import amended, file_ref, write_bundle
from monitor.errors import BundleError
from monitor.explain.reference import Reference
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import score_stream

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "demo-fan"
    shutil.copytree(demo_bundle, copy)
    return copy


def edit(bundle: Path, change: Change) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def set_key(*keys: str, value: Any) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        part = manifest
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert caught.value.exit_status == 78
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_bundle_is_accepted(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    assert bundle.manifest.name == "demo-fan"
    assert bundle.id == f"demo-fan@{bundle.digest[:12]}"
    assert bundle.expected is not None


def test_the_shipped_bundle_is_small(demo_bundle: Path, root: Path) -> None:
    assert sum(file.stat().st_size for file in demo_bundle.rglob("*") if file.is_file()) < 1_000_000
    assert sum(file.stat().st_size for file in (root / "demo").glob("*.flac")) < 3_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("colour", value="red"), "colour: Extra inputs are not permitted"),
        (set_key("front_end", "colour", value="red"), "front_end.log_mel.colour: Unexpected keyword argument"),
        (set_key("calibration", "colour", value=1), "calibration.colour: Extra inputs are not permitted"),
        (set_key("rule", "raise_m", value=3), "rule.raise_m: Unexpected keyword argument"),
        (set_key("schema", value=2), "schema: Input should be 1, got 2"),
        (set_key("front_end", "n_mels", value="64"), "front_end.log_mel.n_mels: Input should be a valid integer, got '64'"),
        (set_key("front_end", "hop_length", value=0), "hop_length must be in 1..1024, got 0"),
        (set_key("front_end", "n_mels", value=128), "statistics.expected_mean_db must be (128,) finite numbers, got (64,)"),
        (set_key("model", "input_frames", value=[0, 1]), "model's input must have 128 values (2 frames of 64 bands), got 320"),
        (set_key("window", "n_frames", value=4), "model.input_frames must be in 0..3, got 4"),
        (set_key("model", "target_frames", value=[2]), "model's output must have 64 values (1 frames of 64 bands), got 320"),
        (set_key("model", "target_frames", value=[4, 3, 2, 1, 0]), "model.target_frames must rise, got [4, 3, 2, 1, 0]"),
        (set_key("model", "layout", value="image"), "model's input must be image (3 dimensions), got (320,)"),
        (set_key("model", "file", value="../../etc/passwd"), "model.file: String should match pattern"),
        (set_key("model", "file", value="other.tflite"), "other.tflite cannot be read: No such file or directory"),
        (set_key("model", "sha256", value="0" * 64), "model.tflite must have sha256 000000000000…, got "),
        (set_key("detector", "statistics", "sha256", value="0" * 64), "statistics.npz must have sha256 000000000000…, got "),
        (
            set_key("detector", "components", value=["magic"]),
            "detector.components.0: Input should be 'reconstruction', 'spectrum' or 'modulation', ",
        ),
        (set_key("calibration", "threshold", value=0.0), "calibration.threshold: Input should be greater than 0, got 0.0"),
        (
            set_key("calibration", "alarm_threshold", value=1.0),
            "calibration: alarm_threshold must be at least threshold (",
        ),
        (
            set_key("calibration", "file_alarm_threshold", value=1.0),
            "calibration: file_alarm_threshold must be at least file_threshold (",
        ),
        (set_key("rule", "raise_k", value=10), "rule.raise_k must be above segment_ticks (10), else one bang raises, got 10"),
        (set_key("rule", "raise_k", value=30), "raise_k must be in 1..raise_n (20), got 30"),
        (set_key("tick_frames", value=0), "tick_frames: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(bundle: Path, change: Change, message: str) -> None:
    edit(bundle, change)
    assert message in refusal(bundle)


def test_a_golden_score_that_is_off_is_refused_with_by_how_much(bundle: Path) -> None:
    def one_percent_more(manifest: dict[str, Any]) -> None:
        manifest["golden"]["score"] *= 1.01

    edit(bundle, one_percent_more)
    found = re.search(r"golden score must be .* \((.*)% off\)", refusal(bundle))
    assert found is not None
    assert float(found[1]) == pytest.approx(0.99, abs=0.11)  # processors agree within 0.1 %


@pytest.mark.parametrize(
    ("key", "value"), [("window_fn", "boxcar"), ("hop_length", 256), ("fmin_hz", 50.0), ("fmax_hz", 7900.0), ("power", 1.0)]
)
def test_another_front_end_of_the_same_shape_is_caught_by_the_golden_signal(bundle: Path, key: str, value: object) -> None:
    edit(bundle, set_key("front_end", key, value=value))
    assert "golden score must be" in refusal(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "model.tflite", "statistics.npz"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"{name}" in refusal(bundle)
    assert "No such file or directory" in refusal(bundle)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "nowhere/manifest.json: cannot be read: No such file or directory" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "not json"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    assert "manifest.json" in refusal(bundle)


@pytest.mark.parametrize("kept", [0, 3, 8, 64, 1000, 35_000, 70_000])
def test_a_truncated_model_is_refused(bundle: Path, kept: int) -> None:
    path = bundle / "model.tflite"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.tflite must have sha256" in refusal(bundle)
    assert f"({kept} bytes)" in refusal(bundle)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_statistics_that_are_no_arrays_are_refused(bundle: Path, content: bytes) -> None:
    (bundle / "statistics.npz").write_bytes(content)
    edit(bundle, set_key("detector", "statistics", "sha256", value=sha256(content)))
    assert "statistics cannot be read" in refusal(bundle)


def test_a_bundle_for_another_microphone_scores_what_it_hears_as_the_first_one_would(
    demo_bundle: Path, demo_normal: Path, tmp_path: Path
) -> None:
    """Twice the amplitude is 6 dB in every band."""
    trained = load_bundle(demo_bundle)
    assert trained.statistics is not None
    louder_db = np.full(trained.manifest.front_end.n_bands, 20.0 * np.log10(2.0), np.float32)
    expected = trained.statistics.expected
    statistics = write_statistics(Reference(expected.mean_db + louder_db, expected.spread_db), response_db=louder_db)
    detector = dict(trained.manifest.detector) | {"statistics": file_ref("statistics.npz", statistics)}
    bundle = replace(trained, statistics=read_statistics(statistics, n_bands=len(louder_db), sample_rate_hz=16000))
    golden = {"score": golden_score(bundle.scorer())}
    assert golden["score"] != trained.manifest.golden.score
    files = {"model.tflite": trained.model, "statistics.npz": statistics}
    write_bundle(tmp_path / "louder", files, amended(trained.manifest, detector=detector, golden=golden))
    sound, _ = soundfile.read(demo_normal, dtype="float32")
    scorers = load_bundle(tmp_path / "louder").scorer(), trained.scorer()
    for scorer, samples in zip(scorers, (2.0 * sound, sound), strict=True):
        score_stream(scorer, [Block(0, np.asarray(samples, np.float32))])
    louder, first = (scorer.file_score() for scorer in scorers)
    assert louder == pytest.approx(first, rel=0.01)
    assert scorers[0].mean_frame() - scorers[1].mean_frame() == pytest.approx(louder_db, abs=0.05)
