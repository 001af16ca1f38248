"""The start of a report: the result in two sentences, and warnings."""

from monitor.learning.report_text import count
from train.evaluation.evaluate import Evaluation
from train.evaluation.metrics import Interval, Verdicts, rate_interval
from train.evaluation.results import Area, Results
from train.report.page import Item, Note, number, percent

_FEW = 10  # clips of a kind, below which a rate is uncertain


def summary(evaluation: Evaluation, results: Results) -> list[Item]:
    """The result, and warnings."""
    at = results.at
    sentences = []
    if at.n_anomaly:
        interval = _interval(rate_interval(at.true_positives, at.n_anomaly), percents=True)
        sentences.append(
            f"Of {at.n_anomaly} anomalous clips, {at.true_positives} were detected ({percent(at.recall)}{interval})."
        )
    if at.n_normal:
        interval = _interval(rate_interval(at.false_positives, at.n_normal), percents=True)
        rate = percent(at.false_alarm_rate)
        sentences.append(f"Of {at.n_normal} normal clips, {at.false_positives} raised a false alarm ({rate}{interval}).")
    if results.at_alarm is not None:
        sentences.append(f"{at_alarm_level(results.at_alarm)}.")
    if results.auc.value is not None:
        sentences.append(f"AUC {_area(results.auc)}, pAUC {_area(results.pauc)}.")
    return [Note(" ".join(sentences)), *(Note(text, warning=True) for text in _warnings(evaluation, results))]


def at_alarm_level(at: Verdicts) -> str:
    """Detections and false alarms at the alarm level."""
    found = f"{at.true_positives} of {count(at.n_anomaly, 'anomalous clip')} detected, " if at.n_anomaly else ""
    return f"At the alarm level {at.threshold:.4g}: {found}{count(at.false_positives, 'false alarm')}"


def only_kind(at: Verdicts) -> str:
    """The only kind of clips in the test."""
    return "only normal clips" if at.n_normal else "only anomalous clips"


def _warnings(evaluation: Evaluation, results: Results) -> list[str]:
    at, provenance = results.at, evaluation.bundle.manifest.provenance
    sentences = []
    if results.best is None:
        sentences.append(
            f"This data set contains {only_kind(at)}, so the separation of normal and anomalous sound cannot be measured."
        )
    unfit = {one.role for one in evaluation.test if one.clip.label == "normal"} - {"test"}
    if "training" in unfit:
        sentences.append("There are only training clips: the bundle is tested on its own training data.")
    elif "cross-fitted" in unfit:
        sentences.append(
            "The normal clips were used for training and for the thresholds. Each is scored by statistics fitted without its "
            "block of time, which is realistic for the same days, loads and speeds, but not for others."
        )
    elif unfit:
        sentences.append("The threshold was computed from these normal clips: false alarms will be more frequent in use.")
    if not evaluation.roles_known:
        same = (
            " and this is the very data set that it was trained on" if provenance.dataset_sha256 == evaluation.data_sha256 else ""
        )
        sentences.append(
            f"It is not known which clips the bundle was trained on{same}. If it was on these, the result is too optimistic. "
            "Use --split to separate them."
        )
    if evaluation.low_rates is not None:
        sentences.append(f"{evaluation.low_rates[0].upper()}{evaluation.low_rates[1:]}.")
    leaks = provenance.metrics.get("leaks")
    sentences += [f"The recipe leaks: {leak}." for leak in (leaks if isinstance(leaks, list) else ())]
    few = [f"{n} {name}" for n, name in ((at.n_normal, "normal"), (at.n_anomaly, "anomalous")) if 0 < n < _FEW]
    if few:
        sentences.append(f"Only {' and '.join(few)} clips were tested, so the intervals are wide and the rates uncertain.")
    if results.auc.value == 1.0:
        sentences.append("Every anomalous clip scored above every normal one, so the intervals of the areas have no width.")
    if missing := sum(one.score is None for one in evaluation.scores):
        sentences.append(f"{missing} of {len(evaluation.scores)} clips could not be scored and are excluded (see Files).")
    return sentences


def _area(area: Area) -> str:
    return f"{number(area.value)}{_interval(area.interval, percents=False)}"


def _interval(interval: Interval | None, *, percents: bool) -> str:
    if interval is None:
        return ""
    low, high = (f"{limit:.1%}" if percents else number(limit) for limit in (interval.low, interval.high))
    return f" (95%: {low} to {high})" if not percents else f"; 95%: {low} to {high}"
