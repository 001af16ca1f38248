"""`train evaluate` and `train report`: from a data set and the shipped bundle to pages, figures and tables."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from monitor import __version__
from monitor.audio.recording import Recording
from monitor.bundle import load_bundle
from monitor.errors import SourceError, UsageError
from monitor.scoring.scorer import score_stream
from train.cli.main import main as train
from train.datasets import Split, read_dataset, save_split, split_dataset
from train.datasets.clip import Clip
from train.evaluation.close_up import band_errors, close_up
from train.evaluation.evaluate import FLOAT_MODEL, ClipScore, Evaluation, evaluate
from train.evaluation.groups import group_metrics
from train.evaluation.provenance import code_version
from train.evaluation.results import compute_results, shipped_model
from train.report import compare, write_report
from train.report.files import tables
from train.report.page import Pair, Section, render_page
from train.report.style import ReportFigure
from train.report.tables import group_items, part_items
from train.report.verdict import verdict

ROOT = Path(__file__).parents[3]
NASTY = 'a <img src=x onerror="alert(1)"> & $x_{ $.flac'  # a file name may hold anything but a slash
SECTIONS = (
    *("sound", "training", "reconstruction", "scores", "thresholds", "verdicts", "areas", "groups"),
    *("model", "float", "files", "provenance"),
)
FRONT = ("levels", "spectrum", "seconds")
FIGURES = (
    *FRONT,
    *("waveforms", "spectra", "spectrograms", "losses", "reconstruction", "zoom", "bands", "histograms", "scatter", "time"),
    *("segments", "sweep", "confusion", "roc", "pr", "float"),
)
NEEDS_ANOMALIES = {"roc", "pr"}


class Page(HTMLParser):
    """A page's ids, its references, and its text; complains of tags that do not match."""

    VOID = frozenset(("meta", "img", "link", "br"))
    FOLDED = "Figures and tables behind this verdict"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self._open

    @property
    def front(self) -> str:
        """The text before what is folded away, without line breaks."""
        return " ".join(self.text.partition(self.FOLDED)[0].split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "action", "data"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six normal clips and three with a fault; one more is not sound at all."""
    folder = tmp_path_factory.mktemp("data") / "fan"
    assert train(["synth", str(folder), "--recordings", "6", "--seconds", "11", "--take", "50"]) == 0
    assert train(["synth", str(folder), "--recordings", "3", "--seconds", "11", "--take", "90", "--fault", "bearing"]) == 0
    (folder / "anomaly/0092.flac").rename(folder / "anomaly" / NASTY)
    (folder / "normal/broken.flac").write_bytes(b"not sound")
    return folder


@pytest.fixture(scope="module")
def evaluation(dataset: Path, demo_bundle: Path) -> Evaluation:
    return evaluate(demo_bundle, read_dataset(dataset))


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "whole"
    write_report(evaluation, out, n_resamples=30, commit="0123abc")
    return out


@pytest.fixture(scope="module")
def normal_only(dataset: Path, demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a data set without anomalies, some of whose clips are known to have been trained on."""
    root = tmp_path_factory.mktemp("normal") / "fan"
    shutil.copytree(dataset / "normal", root / "normal", ignore=shutil.ignore_patterns("broken*"))
    data = read_dataset(root)
    save_split(Split(train=data.clips[:3], held_out=data.clips[3:5], test=data.clips[5:]), root.parent / "split", root)
    out = root.parent / "report"
    write_report(evaluate(demo_bundle, data, split=root.parent / "split"), out, n_resamples=30)
    return out


def test_the_page_holds_every_section_and_figure(report: Path) -> None:
    page = Page(report / "index.html")
    assert set(SECTIONS) <= set(page.ids)
    assert {f"figure-{name}" for name in FIGURES} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags["audio"] == 2
    assert sorted(path.stem for path in (report / "figures").iterdir()) == sorted(FIGURES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (report / "figures").iterdir())


@pytest.mark.parametrize("which", ["report", "normal_only"])
def test_the_page_needs_nothing_beside_it(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(which) / "index.html")
    assert page.references
    assert all(reference.startswith(("data:image/png;base64,", "data:audio/flac;base64,", "#")) for reference in page.references)
    assert not page.tags["script"]
    assert not page.tags["link"]


def test_every_figure_says_how_to_read_it(report: Path) -> None:
    page = Page(report / "index.html")
    assert page.tags["figcaption"] == page.tags["figure"] == len(FIGURES)
    assert "<figcaption></figcaption>" not in (report / "index.html").read_text("utf-8")


def test_settings_of_the_current_folder_do_not_change_a_figure(tmp_path: Path) -> None:
    """matplotlib reads its `matplotlibrc`, whose author could have LaTeX run."""
    code = (
        "import sys; from train.report.style import render; "
        "sys.stdout.buffer.write(render(lambda figure: figure.subplots().set_title('fan'), key='a', title='a', reading='a').png)"
    )
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\nsavefig.bbox: tight\n")
    (tmp_path / "empty").mkdir()
    pictures = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for folder in ("hostile", "empty")
    ]
    assert pictures[0] == pictures[1]


def test_file_names_are_escaped(report: Path) -> None:
    page = Page(report / "index.html")
    assert NASTY in page.text
    assert "x" not in page.references
    assert any(row["file"] == f"anomaly/{NASTY}" for row in rows(report / "files.csv"))


def test_what_is_chosen_on_test_labels_says_so(report: Path) -> None:
    text = Page(report / "index.html").text
    assert text.count("chosen on test labels") >= 3


def test_the_page_says_where_it_comes_from(report: Path, evaluation: Evaluation) -> None:
    text = Page(report / "index.html").text
    provenance = evaluation.bundle.manifest.provenance
    for said in ("commit 0123abc", provenance.recipe, provenance.dataset_sha256, evaluation.data_sha256, evaluation.bundle.id):
        assert said is not None
        assert said in text
    assert all(version in text for version in provenance.versions.values())


def test_the_tables_add_up(report: Path) -> None:
    files, found = rows(report / "files.csv"), json.loads((report / "metrics.json").read_text("utf-8"))
    scored = [row for row in files if row["score"]]
    at = found["at_threshold"]
    counts = Counter((row["label"], row["verdict"]) for row in scored)
    assert (len(files), len(scored)) == (10, 9)
    assert counts["normal", "normal"] == at["true_negatives"]
    assert counts["normal", "anomaly"] == at["false_positives"]
    assert counts["anomaly", "anomaly"] == at["true_positives"] == 3
    assert all((row["correct"] == "True") == (row["label"] == row["verdict"]) for row in scored)
    assert all(float(row["ratio"]) == pytest.approx(float(row["score"]) / at["threshold"]) for row in scored)
    by_class = {row["class"]: row for row in rows(report / "classification_report.csv")}
    assert [float(by_class[name]["support"]) for name in ("normal", "anomaly", "accuracy")] == [6, 3, 9]
    assert float(by_class["anomaly"]["recall"]) == at["recall"]
    assert float(by_class["accuracy"]["f1-score"]) == at["accuracy"]
    for row in rows(report / "thresholds.csv"):
        names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
        assert sum(int(row[name]) for name in names) == 9
    assert len(rows(report / "segments.csv")) == sum(int(row["n_segments"]) for row in files)


def test_scores_are_those_of_the_device(report: Path, evaluation: Evaluation, dataset: Path, demo_bundle: Path) -> None:
    from tests.replay.command import monitor

    path = dataset / "normal/0050.flac"
    lines = monitor("--replay", path, "--model", demo_bundle).lines
    (file_line,) = (line for line in lines if line["type"] == "file")
    (row,) = (row for row in rows(report / "files.csv") if row["file"] == "normal/0050.flac")
    assert float(row["score"]) == pytest.approx(file_line["score"], abs=1e-6)


def test_a_file_that_is_no_sound_is_listed_and_counted(report: Path) -> None:
    (row,) = (row for row in rows(report / "files.csv") if row["file"] == "normal/broken.flac")
    assert "is not a supported audio file" in row["problem"]
    assert row["score"] == row["verdict"] == ""
    assert "1 of 10 clips could not be scored" in Page(report / "index.html").front


def test_the_layers_are_the_models(report: Path) -> None:
    layers = rows(report / "layers.csv")
    assert [row["weights_shape"] for row in layers] == ["64 x 320", "64 x 64", "8 x 64", "64 x 8", "64 x 64", "320 x 64"]
    assert {row["weights_type"] for row in layers} == {"int8"}
    assert all(int(row["n_scales"]) > 1 for row in layers)
    found = json.loads((report / "metrics.json").read_text("utf-8"))
    assert found["model"]["macs_per_window"] == sum(int(row["macs"]) for row in layers) == 2 * (320 * 64 + 64 * 64 + 64 * 8)


def test_the_float_model_is_compared(report: Path) -> None:
    against = json.loads((report / "metrics.json").read_text("utf-8"))["float"]
    assert abs(against["inflation"]) < 0.02
    assert against["rank_correlation"] > 0.7
    assert against["auc"] == against["auc_shipped"] == 1.0
    assert against["n_bytes"] > 100_000


def test_float_and_int8_are_compared_on_the_same_held_out_segments(
    report: Path, normal_only: Path, dataset: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    """By hand: every held-out clip through both models, segment by segment."""
    tested = json.loads((report / "metrics.json").read_text("utf-8"))["float"]
    against = json.loads((normal_only / "metrics.json").read_text("utf-8"))["float"]
    assert (tested["segments"], against["segments"], against["auc"]) == ("test", "held out", None)
    bundles = [load_bundle(demo_bundle) for _ in range(2)]
    bundles[1] = dataclasses.replace(bundles[1], model=(demo_bundle / FLOAT_MODEL).read_bytes())
    found = []
    for bundle in bundles:
        blocks = (Recording(dataset / f"normal/005{n}.flac", sample_rate_hz=16000).blocks() for n in (3, 4))
        ticks = [tick for stream in blocks for tick in score_stream(bundle.scorer(), stream)]
        found.append(np.array([tick.score for tick in ticks if tick.n_ticks == 10]))
    shipped, floating = found
    assert against["n_normal"] == len(shipped) > 1
    assert against["inflation"] == pytest.approx(np.mean(shipped / floating) - 1)
    assert tested["n_anomaly"] == 3 * len(shipped) / 2


def test_the_parts_of_a_score_are_told_apart(evaluation: Evaluation) -> None:
    """As of a bundle with two components, the first of which tells nothing."""
    scores = [
        dataclasses.replace(one, components=(1.0, 3.0 if one.clip.label == "anomaly" else 0.5)) if one.score else one
        for one in evaluation.scores
    ]
    manifest = evaluation.bundle.manifest
    two = manifest.detector.model_copy(update={"components": ("reconstruction", "spectrum")})
    manifest = manifest.model_copy(update={"detector": two})
    bundle = dataclasses.replace(evaluation.bundle, manifest=manifest)
    changed = dataclasses.replace(evaluation, scores=tuple(scores), bundle=bundle)
    results = compute_results(changed, n_resamples=10, commit="1")
    assert [(part.name, part.normal, part.anomaly, part.auc) for part in results.parts] == [
        ("reconstruction", 1.0, 1.0, 0.5),
        ("spectrum", 0.5, 3.0, 1.0),
    ]
    html = render_page("x", [Section("components", "C", part_items(results))]).decode()
    assert "AUC alone" in html
    assert tables(changed, results)["files.csv"].splitlines()[0].endswith(b"component_reconstruction,component_spectrum")
    assert part_items(compute_results(evaluation, n_resamples=10, commit="1")) == []


def test_what_is_not_scored_does_not_count_in_the_error_of_a_band(demo_bundle: Path, tmp_path: Path) -> None:
    """Four seconds of silence within: the model errs there, and the device does not score it."""
    assert train(["synth", str(tmp_path / "a.wav"), "--seconds", "12", "--take", "50"]) == 0
    samples, rate_hz = soundfile.read(tmp_path / "a.wav", dtype="float32")
    (tmp_path / "set/normal").mkdir(parents=True)
    samples[3 * rate_hz : 7 * rate_hz] = 0.0
    soundfile.write(tmp_path / "set/normal/a.wav", samples, rate_hz, "FLOAT")
    found = evaluate(demo_bundle, read_dataset(tmp_path / "set"))
    _, model, n_rows = shipped_model(found)
    detail = close_up(found.scores[0], found, model, n_rows=n_rows)
    silent = np.array([(window <= -99.9).all() for window in detail.target])
    errors = band_errors(detail)
    assert silent.sum() > 90
    assert not detail.scored[silent].any()
    assert detail.scored.sum() > 150
    assert errors is not None
    assert errors.mean() < detail.errors[silent].mean() / 2
    nothing = dataclasses.replace(detail, scored=np.zeros_like(detail.scored))
    assert band_errors(nothing) is None


def test_normal_clips_alone_give_the_report_that_is_possible(normal_only: Path) -> None:
    page = Page(normal_only / "index.html")
    assert set(SECTIONS) <= set(page.ids)
    assert {f"figure-{name}" for name in FIGURES if name not in NEEDS_ANOMALIES} <= set(page.ids)
    assert not {f"figure-{name}" for name in NEEDS_ANOMALIES} & set(page.ids)
    assert "? No false alarms on 1 normal clip; no anomalous clips to find" in page.front
    assert "add recordings of a fault" in page.front
    assert page.tags["audio"] == 1
    found = json.loads((normal_only / "metrics.json").read_text("utf-8"))
    assert found["auc"] == {"value": None, "interval": None}
    assert found["at_threshold"]["recall"] is None
    assert found["at_threshold"]["false_alarm_rate"] is not None


def test_clips_that_were_trained_on_are_not_tested(normal_only: Path) -> None:
    found = json.loads((normal_only / "metrics.json").read_text("utf-8"))["dataset"]
    assert (found["n_training"], found["n_held_out"], found["n_test_normal"], found["roles_known"]) == (3, 2, 1, True)
    assert [row["role"] for row in rows(normal_only / "files.csv")] == [*["training"] * 3, *["held out"] * 2, "test"]


def test_held_out_clips_are_tested_when_there_are_no_others(dataset: Path, demo_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "normal", tmp_path / "set/normal", ignore=shutil.ignore_patterns("broken*", "005[2-9]*"))
    data = read_dataset(tmp_path / "set")
    save_split(Split(train=data.clips[:1], held_out=data.clips[1:], test=()), tmp_path / "split", data.root)
    found = evaluate(demo_bundle, data, split=tmp_path / "split")
    assert [one.role for one in found.test] == ["held out"]
    assert found.untested("held out") == ()
    assert [one.role for one in found.untested("training")] == ["training"]


def test_a_single_recording_is_tested_on_the_part_that_was_held_out(demo_bundle: Path, tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set/normal/all.flac"), "--seconds", "40", "--take", "50"]) == 0
    data = read_dataset(tmp_path / "set")
    save_split(split_dataset(data, held_out=0.5, seed=0), tmp_path / "split", data.root)
    found = evaluate(demo_bundle, data, split=tmp_path / "split")
    (one,) = found.test
    assert (one.role, one.start_s, one.duration_s) == ("held out", 20.0, 20.0)
    (trained,) = found.untested("training")
    assert (trained.start_s, trained.stop_s, trained.duration_s) == (0.0, 20.0, 20.0)
    assert len(trained.segments) == len(one.segments) == 11
    assert all(end_s <= 20.1 for end_s, _ in trained.segments)
    assert all(end_s > 20.0 for end_s, _ in one.segments)
    samples, rate_hz = soundfile.read(tmp_path / "set/normal/all.flac", start=20 * 16000, dtype="float32")
    (tmp_path / "rest/normal").mkdir(parents=True)
    soundfile.write(tmp_path / "rest/normal/rest.wav", samples, rate_hz, "FLOAT")
    assert evaluate(demo_bundle, read_dataset(tmp_path / "rest")).test[0].score == one.score
    write_report(found, tmp_path / "report", n_resamples=10)
    page = Page(tmp_path / "report/index.html")
    assert "all.flac (from 20 s on)" in page.text
    assert "all.flac (up to 20 s)" in page.text
    assert "figure-segments" in page.ids
    assert json.loads((tmp_path / "report/metrics.json").read_text("utf-8"))["dataset"]["n_clips"] == 1


def test_recordings_of_too_low_a_rate_are_named(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is heard at 8 kHz cannot be scored by a model that listens up to 8 kHz."""
    options = ["--recordings", "2", "--seconds", "11", "--format", "wav"]
    assert train(["synth", str(tmp_path / "set"), *options, "--sample-rate", "8000"]) == 0
    assert train(["synth", str(tmp_path / "set"), *options, "--take", "50"]) == 0
    capsys.readouterr()
    found = evaluate(demo_bundle, read_dataset(tmp_path / "set"))
    said = "2 of 4 recordings (8000 Hz) contain nothing above 4 kHz, where 14 of the model's 64 bands lie"
    assert capsys.readouterr().err.splitlines() == [f"train: warning: {said}"]
    assert [one.problem for one in found.scores] == [*["not scored: bandwidth"] * 2, None, None]
    write_report(found, tmp_path / "report", n_resamples=10)
    assert said in Page(tmp_path / "report/index.html").text


def test_layers_are_read_without_tensorflow(demo_bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from train.networks.layers import read_layers\n"
        "print(len(read_layers(Path(sys.argv[1]).read_bytes())), 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(demo_bundle / "model.tflite")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split() == ["6", "False"]


def test_a_data_set_that_cannot_be_scored_is_refused(demo_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal/a.wav").write_bytes(b"no sound")
    with pytest.raises(SourceError, match=r"none of 1 clips can be scored \(normal/a.wav"):
        evaluate(demo_bundle, read_dataset(tmp_path))


def scored(label: Any, score: float, **about: Any) -> ClipScore:
    path = Path(f"{label}-{score}")
    return ClipScore(clip=Clip(path=path, label=label, recording=path.name, **about), name=path.name, role="test", score=score)


def test_domains_are_judged_as_dcase_does() -> None:
    of_source = {"machine": "fan", "section": "00", "domain": "source"}
    of_target = {**of_source, "domain": "target"}
    clips = [
        *(scored("normal", score, **of_source) for score in (1.0, 2.0)),
        *(scored("normal", score, **of_target) for score in (3.0, 6.0)),
        scored("anomaly", 4.0, **of_source),
        scored("anomaly", 5.0, **of_target),
    ]
    found = group_metrics(clips, threshold=3.5, n_resamples=10)
    by_name = {(group.kind, group.name): group for group in found.groups}
    section = by_name["section", "fan / 00"]
    assert section.auc == 0.75
    assert section.pauc is not None
    assert (section.n_normal, section.n_anomaly, section.false_positives, section.false_negatives) == (4, 2, 1, 0)
    assert by_name["domain", "fan / 00 / source"].auc == 1.0
    assert by_name["domain", "fan / 00 / target"].auc == 0.5
    assert found.harmonic_mean == pytest.approx(3 / (1 / 1.0 + 1 / 0.5 + 1 / section.pauc))


def test_groups_are_drawn_and_listed() -> None:
    clips = [
        scored(label, score, machine=machine, id="id_00")
        for machine in ("fan", "<b>$pump$")
        for label, score in (("normal", 1.0), ("normal", 2.0), ("anomaly", 3.0), ("anomaly", 1.5))
    ]
    items = group_items(group_metrics(clips, threshold=2.5, n_resamples=10))
    html = render_page("groups", [Section("groups", "Groups", items)]).decode()
    assert "figure-groups" in html
    assert "&lt;b&gt;$pump$ / id_00" in html
    assert [item.kind for item in items] == ["figure", "table", "table"]


def test_two_reports_stand_side_by_side(report: Path, normal_only: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    compare(report, report, out)
    page = Page(out / "index.html")
    assert {"metrics", "figures", "provenance", "figure-roc-A", "figure-roc-B"} <= set(page.ids)
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in page.references)
    table = {row["metric"]: row for row in rows(out / "comparison.csv")}
    assert float(table["AUC"]["a"]) == float(table["AUC"]["b"]) == 1.0
    assert float(table["AUC of segments, float32 model"]["a"]) == 1.0
    assert all(float(row["difference"]) == 0.0 for row in table.values() if row["difference"])
    compare(report, normal_only, out)  # replaces
    page = Page(out / "index.html")
    assert "figure-roc-A" not in page.ids
    assert "evaluated on different data" in page.text
    assert {row["metric"]: row for row in rows(out / "comparison.csv")}["AUC"]["b"] == ""


def test_reports_with_missing_numbers_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text('{"kind": "stethos-evaluation", "schema": 1, "groups": 3}')
    assert train(["report", "--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "metrics.json is incomplete: " in line


def test_what_is_no_report_is_neither_compared_nor_replaced(report: Path, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not a report of `train evaluate`"):
        compare(report, tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="--out must be a new folder or a report to replace"):
        write_report(evaluation, tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UsageError, match="must be of kind stethos-evaluation"):
        compare(report, tmp_path, tmp_path / "out")
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_figures_too_wide_for_half_a_page_stand_one_above_the_other(report: Path) -> None:
    def pair(key: str) -> Pair:
        figures = [ReportFigure(key=key, title="", reading="", png=(report / f"figures/{key}.png").read_bytes()) for _ in "AB"]
        return Pair(*figures)

    assert pair("scatter").wide
    assert not pair("roc").wide


def test_a_page_of_somebody_else_is_not_replaced_and_files_beside_a_report_stay(report: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="must be a new folder or a comparison to replace"):
        compare(report, report, tmp_path / "site")
    compare(report, report, tmp_path / "both")
    (tmp_path / "both/notes.txt").write_text("look at the third")
    compare(report, report, tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["comparison.csv", "index.html", "notes.txt"]


def test_a_comparison_never_takes_the_place_of_a_report_nor_a_report_that_of_a_comparison(
    report: Path, evaluation: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (shutil.copytree(report, tmp_path / name) for name in "ab")
    third = shutil.copytree(report, tmp_path / "third")
    (tmp_path / "link").symlink_to(a)
    before = sorted(path.relative_to(a) for path in a.rglob("*"))
    for out in (a, b, tmp_path / "b/../a", tmp_path / "link"):
        assert train(["report", "--compare", str(a), str(b), "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"train: error: --out must not be one of the compared folders, got {out}\n"
    with pytest.raises(UsageError, match=r"--out must be a new folder or a comparison to replace, got .*third"):
        compare(a, b, third)
    assert all(sorted(path.relative_to(folder) for path in folder.rglob("*")) == before for folder in (a, b, third))
    compare(a, b, a / "beside-b")  # inside one of them nothing is lost, not even when that is written anew
    write_report(evaluation, a, n_resamples=10)
    assert {path.name for path in (a / "beside-b").iterdir()} == {"index.html", "comparison.csv"}
    with pytest.raises(UsageError, match=r"--out must be a new folder or a report to replace, got .*beside-b"):
        write_report(evaluation, a / "beside-b")


def test_names_that_are_no_text_or_no_line_are_told_apart_in_every_file(demo_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    odd = [b"l\xfcfter.flac", b"l\xf6sung.flac", b"a\nb.flac"]
    for label in ("normal", "anomaly"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for path, name in zip(sorted((dataset / label).glob("*.flac")), odd, strict=False):
            shutil.copy(path, tmp_path / "set" / label / os.fsdecode(name))
    assert train(["evaluate", str(demo_bundle), str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--resamples", "10"]) == 0
    names = {rf"{label}/{name}.flac" for label in ("normal", "anomaly") for name in (r"l\udcfcfter", r"l\udcf6sung", r"a\nb")}
    assert {row["file"] for row in rows(tmp_path / "out/files.csv")} == names
    assert {row["problem"] for row in rows(tmp_path / "out/files.csv")} == {""}
    page = (tmp_path / "out/index.html").read_text("utf-8")
    assert all(name in page for name in names)
    json.loads((tmp_path / "out/metrics.json").read_text("utf-8"))


def test_the_same_scores_give_the_same_numbers(evaluation: Evaluation) -> None:
    one, two = (compute_results(evaluation, n_resamples=30, commit="0123abc") for _ in range(2))
    assert tables(evaluation, one) == tables(evaluation, two)
    assert (one.at, one.auc, one.pauc, one.against_float) == (two.at, two.auc, two.pauc, two.against_float)


def test_a_commit_that_nobody_gave_is_asked_of_git_or_is_the_version() -> None:
    assert code_version("0123abc") == "commit 0123abc"
    assert re.fullmatch(rf"commit [0-9a-f]{{40}}(-dirty)?|stethos {re.escape(__version__)}", code_version())


def test_the_commands_evaluate_and_compare(dataset: Path, demo_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "a")
    assert train(["evaluate", str(demo_bundle), str(dataset), "--out", out, "--resamples", "10"]) == 0
    first, *notes, wrote, after = capsys.readouterr().out.splitlines()
    assert first == "Found all 3 anomalous clips; no false alarms on 6 normal clips."
    assert [line.partition("note: ")[2].split(" ", 3)[:3] for line in notes] == [
        ["It", "is", "not"],  # known which clips it was trained on
        ["Few", "clips", "were"],
        ["1", "of", "10"],  # could not be scored
    ]
    assert wrote == f"wrote {out}/index.html"
    assert after.startswith(f"next: copy {demo_bundle} to /etc/stethos/models on the device")
    assert train(["report", "--compare", out, out, "--out", str(tmp_path / "c")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "It cannot be told which is better from 6 normal and 3 anomalous clips.",
        "An anomalous clip scores above a normal one in 100% of all pairs with A and in 100% with B: the difference may be "
        "chance (+0 to +0 percentage points with 95 % confidence).",
        "At their thresholds A is right about 9 and B about 9 of 9 clips.",
        f"wrote {tmp_path / 'c/index.html'}",
        "next: keep the one in use, or test both with more clips, above all of weak faults",
    ]
    assert train(["report", "--compare", out, str(dataset), "--out", str(tmp_path / "c")]) == 2
    assert "not a report of `train evaluate`" in capsys.readouterr().err


def test_a_recipes_leaks_are_marked(evaluation: Evaluation) -> None:
    manifest = evaluation.bundle.manifest
    leaky = manifest.provenance.model_copy(update={"metrics": {"leaks": ["the test set chose the weights"]}})
    bundle = dataclasses.replace(evaluation.bundle, manifest=manifest.model_copy(update={"provenance": leaky}))
    changed = dataclasses.replace(evaluation, bundle=bundle)
    said = verdict(changed, compute_results(changed, n_resamples=10, commit="1"))
    assert "The recipe leaks: the test set chose the weights." in said.doubts
