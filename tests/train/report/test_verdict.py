"""The verdict: what was missed comes first, with the threshold that finds it and its cost; then what to do."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle import load_bundle
from train.datasets import Dataset
from train.datasets.clip import Clip, Label
from train.evaluation.evaluate import ClipScore, Evaluation, Role
from train.evaluation.metrics import auc, verdicts
from train.evaluation.paired import compare_paired
from train.evaluation.results import Results, compute_results
from train.report.better import better
from train.report.verdict import Verdict, verdict

COLUMNS = "file,label,role,start_s,score,verdict"


def clips(label: Label, ratios: Sequence[float], *, threshold: float, role: Role = "test") -> list[ClipScore]:
    names = [f"{label}/{at}.wav" for at in range(len(ratios))]
    return [
        ClipScore(clip=Clip(path=Path(name), label=label, recording=name), name=name, role=role, score=ratio * threshold)
        for name, ratio in zip(names, ratios, strict=True)
    ]


@pytest.fixture(scope="module")
def blank(demo_bundle: Path) -> tuple[Evaluation, Results]:
    """An evaluation without clips of interest, whose scores a test replaces."""
    bundle = load_bundle(demo_bundle)
    evaluation = Evaluation(
        folder=demo_bundle,
        bundle=bundle,
        dataset=Dataset(root=Path("my-fan"), layout="plain", clips=()),
        channel=None,
        float_model=None,
        roles_known=True,
        data_sha256="",
        low_rates=None,
        scores=tuple(clips("normal", [0.5] * 40, threshold=1.0) + clips("anomaly", [2.0], threshold=1.0)),
    )
    return evaluation, compute_results(evaluation, n_resamples=2, commit="1")


def said(
    blank: tuple[Evaluation, Results], normal: Sequence[float], anomaly: Sequence[float], *, role: Role = "test", **about: Any
) -> Verdict:
    """The verdict on clips with these multiples of the threshold."""
    evaluation, results = blank
    threshold = evaluation.threshold
    scores = clips("normal", normal, threshold=threshold, role=role) + clips("anomaly", anomaly, threshold=threshold)
    changed = dataclasses.replace(evaluation, scores=tuple(scores), **about)
    is_anomaly = np.array([one.clip.label == "anomaly" for one in scores])
    values = np.array([one.score for one in scores], np.float64)
    at = verdicts(is_anomaly, values, threshold=threshold)
    return verdict(changed, dataclasses.replace(results, anomaly=is_anomaly, scores=values, at=at, at_alarm=None))


def test_what_was_missed_is_named_with_the_threshold_that_finds_it_and_its_cost(blank: tuple[Evaluation, Results]) -> None:
    found = said(blank, [0.5] * 38 + [0.85, 0.9], [2.0, 0.8, 0.999, 3.0])
    threshold = blank[0].threshold
    assert (found.state, found.headline) == ("alarm", "2 of 4 anomalous clips missed; no false alarms on 40 normal clips")
    assert found.findings == (
        "Missed: anomaly/1.wav (0.80 x the threshold), anomaly/2.wav (0.99 x).",  # never rounded to 1
        f"A threshold of {np.floor(80 * threshold) / 100:.3g} instead of {threshold:.3g} would have found them, "
        "with 2 false alarms on 40 normal clips.",
    )
    assert found.next_step.startswith("record more normal sound and train again")
    assert found.doubts == (
        "Few clips were tested (4 anomalous), so the rates are uncertain. About 30 clips of each kind "
        "without an error would show an error rate below 10 %.",
    )


@pytest.mark.parametrize("ratio", [0.123456, 0.5, 0.98765])
def test_the_threshold_that_is_named_does_find_the_clip(ratio: float, blank: tuple[Evaluation, Results]) -> None:
    (_, sentence) = said(blank, [0.01] * 40, [ratio]).findings
    assert float(sentence.split()[3]) <= ratio * blank[0].threshold


def test_no_threshold_finds_a_clip_whose_score_is_zero(blank: tuple[Evaluation, Results]) -> None:
    """Such as that of an imported network which returns its input."""
    assert "No useful threshold finds it: 0 would" in said(blank, [0.01] * 40, [0.0]).findings[1]


def test_a_threshold_that_flags_most_normal_sound_is_no_advice(blank: tuple[Evaluation, Results]) -> None:
    found = said(blank, [0.5] * 40, [0.3])
    assert found.findings[1].startswith("No useful threshold finds it: ")
    assert found.findings[1].endswith("with 40 false alarms on 40 normal clips.")
    assert found.next_step.startswith("listen to the missed clips")


def test_many_missed_clips_are_counted(blank: tuple[Evaluation, Results]) -> None:
    found = said(blank, [0.5] * 40, [0.8] * 12)
    assert found.findings[0].endswith("and 7 more (files.csv).")


def test_false_alarms_come_next_with_what_silence_would_cost(blank: tuple[Evaluation, Results]) -> None:
    found = said(blank, [0.5] * 34 + [1.2] * 6, [2.0] * 10 + [1.1])
    assert (found.state, found.headline) == ("warning", "Found all 11 anomalous clips; 6 false alarms on 40 normal clips")
    assert found.findings[0].startswith("False alarms: normal/34.wav (1.20 x the threshold), normal/35.wav (1.20 x), ")
    assert found.findings[1].endswith("would have raised none, and missed 1 anomalous clip of 11.")
    assert found.next_step.startswith("if the machine was in order in the false alarms, add them to the normal recordings")


def test_a_false_alarm_in_forty_is_what_was_promised(blank: tuple[Evaluation, Results]) -> None:
    assert "reload stethos" in said(blank, [0.5] * 39 + [1.2], [2.0] * 10).next_step


def test_all_is_well(blank: tuple[Evaluation, Results]) -> None:
    found = said(blank, [0.5] * 40, [2.0] * 10)
    assert (found.state, found.findings, found.doubts) == ("normal", (), ())
    assert found.next_step.startswith(f"copy {blank[0].folder} to /etc/stethos/models")


def test_clips_that_were_trained_on_are_said_to_be(blank: tuple[Evaluation, Results]) -> None:
    assert any("trained on these normal clips" in one for one in said(blank, [0.5] * 40, [2.0] * 10, role="cross-fitted").doubts)
    assert any("its own training data" in one for one in said(blank, [0.5] * 40, [], role="training").doubts)
    unknown = said(blank, [0.5] * 40, [2.0] * 10, roles_known=False)
    assert unknown.doubts[0].startswith("It is not known which clips the bundle was trained on")


def reports(folder: Path, *scores: Sequence[float], n_normal: int) -> list[Path]:
    """Folders with the list of clips that both tested; the first ones are normal, the threshold is 1."""
    made = []
    for name, of in zip("ab", scores, strict=True):
        lines = [
            f"{at}.wav,{'normal' if at < n_normal else 'anomaly'},test,0.0,{score},{'anomaly' if score >= 1 else 'normal'}"
            for at, score in enumerate(of)
        ]
        (folder / name).mkdir()
        (folder / name / "files.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")
        made.append(folder / name)
    return made


@pytest.mark.parametrize(
    ("b", "headline"),
    [
        ([0.5] * 20 + [2.0] * 20, "It cannot be told which is better from 20 normal and 20 anomalous clips"),
        ([0.5] * 20 + [0.4] * 10 + [2.0] * 10, "A (a) is better"),
        ([0.5] * 20 + [2.0] * 17 + [0.4] * 3, "It cannot be told which is better from 20 normal and 20 anomalous clips"),
        ([1.5] * 20 + [2.0] * 20, "A (a) is better"),  # it separates as well, but its threshold is worse
    ],
)
def test_a_comparison_says_which_is_better_or_that_it_cannot_be_told(b: list[float], headline: str, tmp_path: Path) -> None:
    folders = reports(tmp_path, [0.5] * 20 + [2.0] * 20, b, n_normal=20)
    assert better(*folders, is_same_data=True, doubts=[]).headline == headline
    assert better(*folders, is_same_data=False, doubts=[]).headline.startswith("It cannot be told")


def test_one_that_separates_better_at_a_worse_threshold_should_be_calibrated(tmp_path: Path) -> None:
    a = [0.5] * 30 + [2.0] * 20 + [0.6, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1]
    folders = reports(tmp_path, a, [1.5] * 30 + [2.0] * 27, n_normal=30)
    found = better(*folders, is_same_data=True, doubts=[])
    assert found.headline == "B (b) separates better, but its threshold is worse"
    assert "train calibrate" in found.next_step


def test_the_area_is_scikit_learns_and_its_interval_holds_the_difference() -> None:
    rng = np.random.default_rng(1)
    anomaly = np.arange(80) % 4 == 0
    a, b = (np.round(rng.standard_normal(80) + gain * anomaly, 1) for gain in (0.5, 2.0))
    found = compare_paired(anomaly, (a, a > 0), (b, b > 0))
    assert found.areas == pytest.approx([auc(anomaly, scores) for scores in (a, b)])
    assert found.areas is not None
    assert found.interval is not None
    assert 0.0 < found.interval.low < found.areas[1] - found.areas[0] < found.interval.high < 1.0


def test_mcnemars_test_is_exact() -> None:
    anomaly = np.ones(10, bool)
    scores = np.linspace(0.0, 1.0, 10)
    found = compare_paired(anomaly, (scores, np.ones(10, bool)), (scores, np.array([True] * 4 + [False] * 6)))
    assert (found.areas, found.only_a, found.only_b) == (None, 6, 0)
    assert found.chance == pytest.approx(2 * 0.5**6)
