"""The scores that a bundle keeps of its training recordings, and the commands that use them for sound that it knows."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle import load_bundle
from monitor.errors import BundleError
from train.calibration.cross_fitted import CROSS_FITTED, read_cross_fitted, write_cross_fitted
from train.calibration.normal_scores import score_pieces
from train.cli.main import main as train
from train.datasets import pieces, read_dataset
from train.evaluation.evaluate import evaluate
from train.recipes.method import METHODS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight normal recordings of two segments."""
    folder = tmp_path_factory.mktemp("cross-fitted") / "fan"
    assert train(["synth", str(folder), "--recordings", "8", "--seconds", "21", "--take", "100"]) == 0
    return folder


@pytest.fixture(scope="module")
def bundle(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "fan"
    assert train(["fit", str(dataset), "--recipe", "default", "--out", str(out)]) == 0
    return out


@pytest.fixture
def larger(dataset: Path, tmp_path: Path) -> Path:
    """The training set under other names, and four recordings more."""
    folder = tmp_path / "larger"
    assert train(["synth", str(folder), "--recordings", "4", "--seconds", "21", "--take", "200"]) == 0
    for path in (dataset / "normal").glob("*.flac"):
        shutil.copy(path, folder / "normal" / f"old-{path.name}")
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_kept_is_read_back_exactly(bundle: Path) -> None:
    content = (bundle / CROSS_FITTED).read_bytes()
    kept = read_cross_fitted(bundle)
    assert kept is not None
    assert write_cross_fitted(kept) == content
    assert [one.name for one in kept.stretches] == [f"normal/010{n}.flac" for n in range(8)]
    assert [len(one.segments) for one in kept.stretches] == [12] * 8
    assert len(content) < 100_000


def test_the_training_set_gives_the_thresholds_of_fit_again(
    bundle: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["calibrate", str(bundle), "--on", str(dataset), "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().err == "train: used the cross-fitted scores of the bundle's 8 training recordings\n"
    before, after = manifest(bundle), manifest(tmp_path / "again")
    assert after["calibration"] == before["calibration"]
    assert after["rule"] == before["rule"]
    assert (tmp_path / "again/statistics.npz").read_bytes() == (bundle / "statistics.npz").read_bytes()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "default"])
def test_every_method_uses_the_kept_scores(method: str, bundle: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    assert train(["calibrate", str(bundle), "--on", str(dataset), "--method", method, "--out", str(out)]) == 0
    kept = read_cross_fitted(bundle)
    assert kept is not None
    calibration = manifest(out)["calibration"]
    assert (calibration["method"], calibration["n_segments"]) == (method, 96)
    assert calibration["score_mean"] == kept.held_out.segment_scores.mean()
    if method == "percentile":
        assert calibration["threshold"] == np.percentile(kept.held_out.segment_scores, 99.9)


def test_other_sound_in_between_changes_nothing(bundle: Path, dataset: Path, larger: Path, tmp_path: Path) -> None:
    out = tmp_path / "there-and-back"
    assert train(["calibrate", str(bundle), "--on", str(larger), "--out", str(out)]) == 0
    assert manifest(out)["calibration"] != manifest(bundle)["calibration"]
    assert train(["calibrate", str(out), "--on", str(dataset)]) == 0
    assert manifest(out)["calibration"] == manifest(bundle)["calibration"]


def test_known_recordings_of_a_larger_data_set_are_left_out(
    bundle: Path, larger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["calibrate", str(bundle), "--on", str(larger), "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().err == "train: left out 8 training recordings of the bundle\n"
    assert manifest(tmp_path / "new")["calibration"]["n_recordings"] == 4


def test_some_training_recordings_alone_set_no_threshold(
    bundle: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "set", ignore=shutil.ignore_patterns("010[67]*"))
    assert train(["calibrate", str(bundle), "--on", str(tmp_path / "set"), "--out", str(tmp_path / "new")]) == 1
    assert "must contain all 8 recordings that the bundle was trained on" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_sound_whose_scores_are_lost_sets_no_threshold(
    bundle: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = shutil.copytree(bundle, tmp_path / "lost")
    (lost / CROSS_FITTED).unlink()
    assert train(["calibrate", str(lost), "--on", str(dataset)]) == 1
    assert "no recording was held out from training, and the bundle has no cross-fitted scores" in capsys.readouterr().err


def test_training_recordings_are_judged_by_scores_that_do_not_know_them(bundle: Path, dataset: Path, tmp_path: Path) -> None:
    known = score_pieces(load_bundle(bundle).scorer, pieces(read_dataset(dataset).clips, sample_rate_hz=16000))
    kept = read_cross_fitted(bundle)
    assert kept is not None
    assert train(["evaluate", str(bundle), str(dataset), "--out", str(tmp_path / "report"), "--resamples", "10"]) == 0
    files = rows(tmp_path / "report/files.csv")
    assert {row["role"] for row in files} == {"cross-fitted"}
    scores = np.array([float(row["score"]) for row in files])
    assert sorted(scores) == sorted(kept.held_out.file_scores)
    assert (scores > known.file_scores).all()
    assert all(row["float_score"] == row["component_spectrum"] == "" for row in files if "component_spectrum" in row)
    segments = [float(row["score"]) for row in rows(tmp_path / "report/segments.csv")]
    assert sorted(segments) == sorted(kept.held_out.segment_scores)
    found = json.loads((tmp_path / "report/metrics.json").read_text())
    assert (found["dataset"]["n_cross_fitted"], found["dataset"]["n_test_normal"], found["dataset"]["roles_known"]) == (
        8,
        8,
        True,
    )
    assert found["float"]["segments"] == "cross-fitted"
    assert found["float"]["auc"] is None
    page = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Each is scored as if it had not been" in page
    assert "figure-time" not in page


def test_false_alarms_on_the_training_set_are_as_many_as_on_fresh_sound(bundle: Path, dataset: Path, tmp_path: Path) -> None:
    """At a threshold amid the scores: by statistics that know the sound nothing passes it."""
    out = tmp_path / "middle"
    assert train(["calibrate", str(bundle), "--on", str(dataset), "--percentile", "50", "--out", str(out)]) == 0
    assert train(["synth", str(tmp_path / "fresh"), "--recordings", "8", "--seconds", "21", "--take", "300"]) == 0
    known = score_pieces(load_bundle(out).scorer, pieces(read_dataset(dataset).clips, sample_rate_hz=16000)).segment_scores
    threshold = load_bundle(out).manifest.calibration.threshold
    trained, fresh = (
        np.array([score for one in evaluate(out, read_dataset(folder)).test for _, score in one.segments])
        for folder in (dataset, tmp_path / "fresh")
    )
    shares = [float(np.mean(scores >= threshold)) for scores in (trained, fresh, known)]
    assert shares[0] == pytest.approx(0.5, abs=0.02)
    assert shares[1] > 0.2
    assert shares[2] < 0.05


def test_in_a_larger_data_set_training_recordings_are_set_apart(bundle: Path, larger: Path) -> None:
    found = evaluate(bundle, read_dataset(larger))
    assert [one.role for one in found.scores] == [*["test"] * 4, *["cross-fitted"] * 8]
    assert found.roles_known
    assert len(found.test) == 4


def test_another_channel_has_no_kept_scores(bundle: Path, dataset: Path) -> None:
    found = evaluate(bundle, read_dataset(dataset), channel=1)
    assert {one.role for one in found.scores} == {"training"}


def test_a_recording_that_was_cut_into_folds_is_judged_part_by_part(tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set/normal/all.flac"), "--seconds", "33", "--take", "50"]) == 0
    assert train(["fit", str(tmp_path / "set"), "--recipe", "default", "--out", str(tmp_path / "one")]) == 0
    found = evaluate(tmp_path / "one", read_dataset(tmp_path / "set")).scores
    assert [one.role for one in found] == ["cross-fitted"] * 3
    assert found[0].start_s == 0.0
    assert found[2].stop_s == float("inf")
    assert [one.stop_s for one in found[:2]] == [one.start_s for one in found[1:]]
    assert sum(one.duration_s or 0.0 for one in found) == pytest.approx(33.0)
    assert all(one.start_s < end_s <= min(one.stop_s, 33.0) for one in found for end_s, _ in one.segments)


def test_the_alarm_level_is_reported_beside_the_warning_level(
    bundle: Path, larger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = ["--recordings", "2", "--seconds", "21", "--take", "90", "--fault", "bearing"]
    assert train(["synth", str(larger), *faulty]) == 0
    changed = shutil.copytree(bundle, tmp_path / "changed")
    content = manifest(changed)
    content["calibration"] |= {"file_threshold": 0.5, "file_alarm_threshold": 3.0}  # all that is normal warns
    (changed / "manifest.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert train(["evaluate", str(changed), str(larger), "--out", str(tmp_path / "report"), "--resamples", "10"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Found all 2 anomalous clips; 4 false alarms on 4 normal clips."
    found = json.loads((tmp_path / "report/metrics.json").read_text())
    levels = [found[key] for key in ("at_threshold", "at_alarm_threshold")]
    assert [(at["threshold"], at["true_positives"], at["false_positives"]) for at in levels] == [(0.5, 2, 4), (3.0, 2, 0)]
    severities = {(row["label"], row["severity"]) for row in rows(tmp_path / "report/files.csv") if row["role"] == "test"}
    assert severities == {("normal", "warning"), ("anomaly", "alarm")}
    assert "whole files 3" in (tmp_path / "report/index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, "got others or not all: names"),
        ({"more": np.zeros(1)}, "got others or not all: more"),
        ({"file_scores": np.zeros(3)}, r"file_scores must be one value for each of 8 recordings, got float64 \(3,\)"),
        ({"unit_scores": np.array([1.0, np.nan])}, "unit_scores must be finite"),
        ({"segment_counts": np.full(8, 99)}, r"segment_scores must be as many as segment_counts says \(792\)"),
        ({"tick_scores": np.array([-1.0])}, "tick_scores must be 0 or more"),
        ({"drift": np.array(-0.5)}, "drift must be 0 or more"),
        ({"names": np.array([None] * 8)}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_damage_is_one_clear_line(change: dict[str, Any], message: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with np.load(bundle / CROSS_FITTED) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(tmp_path / CROSS_FITTED, **{name: value for name, value in (arrays | change).items() if value is not None})
    with pytest.raises(BundleError, match=message) as error:
        read_cross_fitted(tmp_path)
    assert str(tmp_path / CROSS_FITTED) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / CROSS_FITTED).write_bytes(content)
    with pytest.raises(BundleError, match=r"cross_fitted.npz: cannot be read: "):
        read_cross_fitted(tmp_path)
