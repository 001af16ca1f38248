"""What a report says first: the result in two sentences, and what to beware of."""

from monitor.learning.report_text import count
from train.evaluation.evaluate import Evaluation
from train.evaluation.metrics import Interval, Verdicts, rate_interval
from train.evaluation.results import Area, Results
from train.report.page import Item, Note, number, percent

_FEW = 10  # clips of a kind, below which a rate says little


def summary(evaluation: Evaluation, results: Results) -> list[Item]:
    """The result, and warnings."""
    at = results.at
    said = []
    if at.n_anomaly:
        interval = _interval(rate_interval(at.true_positives, at.n_anomaly), percents=True)
        said.append(f"Of {at.n_anomaly} anomalous clips {at.true_positives} were found ({percent(at.recall)}{interval}).")
    if at.n_normal:
        interval = _interval(rate_interval(at.false_positives, at.n_normal), percents=True)
        rate = percent(at.false_alarm_rate)
        said.append(f"Of {at.n_normal} normal clips {at.false_positives} raised a false alarm ({rate}{interval}).")
    if results.at_alarm is not None:
        said.append(f"{at_alarm_level(results.at_alarm)}.")
    if results.auc.value is not None:
        said.append(f"AUC {_area(results.auc)}, pAUC {_area(results.pauc)}.")
    return [Note(" ".join(said)), *(Note(text, warning=True) for text in _warnings(evaluation, results))]


def at_alarm_level(at: Verdicts) -> str:
    """What was found, and what falsely, at the alarm level."""
    found = f"{at.true_positives} of {count(at.n_anomaly, 'anomalous clip')} found, " if at.n_anomaly else ""
    return f"At the alarm level {at.threshold:.4g}: {found}{count(at.false_positives, 'false alarm')}"


def only_kind(at: Verdicts) -> str:
    """Of which kind all clips are."""
    return "only normal clips" if at.n_normal else "only anomalous clips"


def _warnings(evaluation: Evaluation, results: Results) -> list[str]:
    at, provenance = results.at, evaluation.bundle.manifest.provenance
    said = []
    if results.best is None:
        said.append(f"This data set holds {only_kind(at)}: how well anomalies are told from normal sound cannot be said.")
    unfit = {one.role for one in evaluation.test if one.clip.label == "normal"} - {"test"}
    if "training" in unfit:
        said.append("There is nothing but training clips: the bundle is tested on what it was trained on.")
    elif "cross-fitted" in unfit:
        said.append(
            "The normal clips were trained on, and the thresholds were set on them. Each is scored by statistics without its "
            "block of time, which is realistic for the same days, loads and speeds; others do not show here."
        )
    elif unfit:
        said.append("The normal clips are those on which the threshold was set: false alarms are rarer here than they will be.")
    if not evaluation.roles_known:
        same = (
            " and this is the very data set that it was trained on" if provenance.dataset_sha256 == evaluation.data_sha256 else ""
        )
        said.append(
            f"It is not known which clips the bundle was trained on{same}: if they are among these, the result flatters it. "
            "Give the split (--split) to set them apart."
        )
    if evaluation.low_rates is not None:
        said.append(f"{evaluation.low_rates[0].upper()}{evaluation.low_rates[1:]}.")
    leaks = provenance.metrics.get("leaks")
    said += [f"The recipe leaks: {leak}." for leak in (leaks if isinstance(leaks, list) else ())]
    few = [f"{n} {name}" for n, name in ((at.n_normal, "normal"), (at.n_anomaly, "anomalous")) if 0 < n < _FEW]
    if few:
        said.append(f"Only {' and '.join(few)} clips were tested: the intervals are wide, and no rate is sure.")
    if results.auc.value == 1.0:
        said.append(
            "Every anomalous clip scored above every normal one, so the intervals of the areas collapse; more clips may differ."
        )
    if missing := sum(one.score is None for one in evaluation.scores):
        said.append(f"{missing} of {len(evaluation.scores)} clips could not be scored and count nowhere (see Files).")
    return said


def _area(area: Area) -> str:
    return f"{number(area.value)}{_interval(area.interval, percents=False)}"


def _interval(interval: Interval | None, *, percents: bool) -> str:
    if interval is None:
        return ""
    low, high = (f"{limit:.1%}" if percents else number(limit) for limit in (interval.low, interval.high))
    return f" (95%: {low} to {high})" if not percents else f"; 95%: {low} to {high}"
