"""The verdict on a bundle in words: what was missed, what was a false alarm, what to do next, and what is in doubt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitor.learning.report_text import count, significant
from monitor.learning.thresholds import FILE_CHANCE
from train.evaluation.evaluate import ClipScore, Evaluation
from train.evaluation.metrics import Verdicts, rate_interval
from train.evaluation.results import Results

State = Literal["normal", "warning", "alarm", "unknown"]
_NAMED = 5  # clips; the others are counted
_FEW, _ENOUGH = 10, 30  # clips of a kind: rates are uncertain, and 30 without an error show a rate below 10 %
_GOOD_RECORDINGS = 28  # normal recordings from which more of the same day help little


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Sentences in the order in which they matter. `state` is that of the page: alarm if anomalies were missed."""

    state: State
    headline: str
    findings: tuple[str, ...]
    doubts: tuple[str, ...]
    next_step: str

    @property
    def lines(self) -> tuple[str, ...]:
        """For a terminal, without the next step."""
        return (f"{self.headline}.", *self.findings, *(f"note: {doubt}" for doubt in self.doubts))


def verdict(evaluation: Evaluation, results: Results) -> Verdict:
    """The verdict at the bundle's warning level, on the clips that are tested."""
    missed = [one for one in evaluation.labelled("anomaly") if (one.score or 0.0) < evaluation.threshold]
    false = [one for one in evaluation.labelled("normal") if (one.score or 0.0) >= evaluation.threshold]
    state: State = "alarm" if missed else "warning" if false else "normal" if results.at.n_anomaly else "unknown"
    return Verdict(
        state=state,
        headline=_headline(results.at),
        findings=tuple(_findings(evaluation, results, missed, false)),
        doubts=tuple(_doubts(evaluation, results)),
        next_step=_next(evaluation, results, missed, false),
    )


def only_kind(at: Verdicts) -> str:
    """The only kind of clips in the test."""
    return "only normal clips" if at.n_normal else "only anomalous clips"


def _headline(at: Verdicts) -> str:
    missed, normal = at.false_negatives, count(at.n_normal, "normal clip")
    alarms = f"{count(at.false_positives, 'false alarm')} on {normal}" if at.n_normal else ""
    if not at.n_anomaly:
        return f"{alarms[0].upper()}{alarms[1:]}; no anomalous clips to find"
    of = "the anomalous clip" if at.n_anomaly == 1 else f"all {at.n_anomaly} anomalous clips"
    found = f"{missed} of {count(at.n_anomaly, 'anomalous clip')} missed" if missed else f"Found {of}"
    return f"{found}; {alarms or 'no normal clips to compare with'}"


def _findings(evaluation: Evaluation, results: Results, missed: Sequence[ClipScore], false: Sequence[ClipScore]) -> list[str]:
    found = []
    if missed:
        found += [f"Missed: {_names(missed, evaluation.threshold)}.", _cost_of_finding(results, missed)[0]]
    if false:
        found += [f"False alarms: {_names(false, evaluation.threshold)}.", _cost_of_silence(results, false)]
    at = results.at_alarm
    if at is not None and at.true_positives < results.at.true_positives:
        n = results.at.true_positives - at.true_positives
        found.append(
            f"{n} of the {results.at.true_positives} that were found {'is a warning' if n == 1 else 'are warnings'}, not alarms."
        )
    return found


def _names(clips: Sequence[ClipScore], threshold: float) -> str:
    """The first few clips with their ratios, those farthest from the threshold first."""
    ranked = sorted(clips, key=lambda one: -abs((one.score or 0.0) - threshold))
    ratios = [math.floor(100 * (one.score or 0.0) / threshold) / 100 for one in ranked]  # never rounded to the threshold
    named = [
        f"{one.name} ({ratio:.2f} x{' the threshold' if at == 0 else ''})"
        for at, (one, ratio) in enumerate(zip(ranked[:_NAMED], ratios, strict=False))
    ]
    return ", ".join([*named, *([f"and {len(ranked) - _NAMED} more (files.csv)"] if len(ranked) > _NAMED else [])])


def _cost_of_finding(results: Results, missed: Sequence[ClipScore]) -> tuple[str, bool]:
    """The threshold that would have found all clips with the false alarms that it costs, and whether that is of any use."""
    threshold, at = _rounded(min(one.score or 0.0 for one in missed), math.floor), results.at
    instead = f"A threshold of {significant(threshold)} instead of {significant(at.threshold)}"
    them = "it" if len(missed) == 1 else "them"
    if not at.n_normal:
        return f"{instead} would have found {them}; without normal clips its false alarms are unknown.", True
    cost = int(np.count_nonzero(results.scores[~results.anomaly] >= threshold))
    alarms = f"with {count(cost, 'false alarm')} on {count(at.n_normal, 'normal clip')}"
    if 2 * cost > at.n_normal:
        return f"No useful threshold finds {them}: {significant(threshold)} would, {alarms}.", False
    return f"{instead} would have found {them}, {alarms}.", True


def _cost_of_silence(results: Results, false: Sequence[ClipScore]) -> str:
    """The threshold that would have raised no false alarm, and the anomalies that it would have missed."""
    threshold, at = _rounded(max(one.score or 0.0 for one in false), math.ceil), results.at
    instead = f"A threshold of {significant(threshold)} instead of {significant(at.threshold)} would have raised none"
    if not at.n_anomaly:
        return f"{instead}."
    lost = int(np.count_nonzero(results.scores[results.anomaly] < threshold))
    return f"{instead}, and missed {count(lost, 'anomalous clip')} of {at.n_anomaly}."


def _rounded(score: float, to: Callable[[float], int]) -> float:
    """A threshold of three digits on the right side of a score."""
    if score <= 0.0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(score)) - 2)
    found = to(score / step) * step
    return found + step if to is math.ceil and found <= score else found


def _next(evaluation: Evaluation, results: Results, missed: Sequence[ClipScore], false: Sequence[ClipScore]) -> str:
    calibration, name = evaluation.bundle.manifest.calibration, evaluation.folder
    interval = rate_interval(len(false), results.at.n_normal)
    if missed and calibration.n_recordings < _GOOD_RECORDINGS and _cost_of_finding(results, missed)[1]:
        behind = f"{calibration.n_recordings} are behind the threshold, which falls with more; {_GOOD_RECORDINGS} work well"
        return f"record more normal sound and train again ({behind})"
    if missed:
        return (
            "listen to the missed clips. If the fault can be heard, train again with --recipe wide, which hears up to 20 kHz, "
            "or move the microphone nearer to the fault"
        )
    if interval is not None and interval.low > FILE_CHANCE:
        return "if the machine was in order in the false alarms, add them to the normal recordings and train again"
    install = f"copy {name} to /etc/stethos/models on the device, name it in monitor.yaml, then sudo systemctl reload stethos"
    if not results.at.n_anomaly:
        return f"add recordings of a fault, real or imitated, to see whether it is found; or {install}"
    return install


def _doubts(evaluation: Evaluation, results: Results) -> list[str]:
    at, provenance = results.at, evaluation.bundle.manifest.provenance
    sentences = []
    unfit = {one.role for one in evaluation.test if one.clip.label == "normal"} - {"test"}
    if "training" in unfit:
        sentences.append("There are only training clips: the bundle is tested on its own training data.")
    elif "cross-fitted" in unfit:
        sentences.append(
            "The bundle was trained on these normal clips. Each is scored as if it had not been, which is realistic for the same "
            "days, loads and speeds, but not for others."
        )
    elif unfit:
        sentences.append("The threshold was computed from these normal clips: false alarms will be more frequent in use.")
    if not evaluation.roles_known:
        same = ", and this is the data set that it was trained on" if provenance.dataset_sha256 == evaluation.data_sha256 else ""
        sentences.append(
            f"It is not known which clips the bundle was trained on{same}. If it was on these, the result is too good: "
            "--split separates them."
        )
    if evaluation.low_rates is not None:
        sentences.append(f"{evaluation.low_rates[0].upper()}{evaluation.low_rates[1:]}.")
    leaks = provenance.metrics.get("leaks")
    sentences += [f"The recipe leaks: {leak}." for leak in (leaks if isinstance(leaks, list) else ())]
    few = [f"{n} {name}" for n, name in ((at.n_normal, "normal"), (at.n_anomaly, "anomalous")) if 0 < n < _FEW]
    if few:
        sentences.append(
            f"Few clips were tested ({' and '.join(few)}), so the rates are uncertain. About {_ENOUGH} clips of each kind "
            "without an error would show an error rate below 10 %."
        )
    if missing := sum(one.score is None for one in evaluation.scores):
        sentences.append(
            f"{missing} of {count(len(evaluation.scores), 'clip')} could not be scored and are left out (files.csv)."
        )
    return sentences
