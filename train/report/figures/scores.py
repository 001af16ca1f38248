"""Figures of scores: histograms, scatter, errors against thresholds, float against int8."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monitor.arrays import F64
from train.datasets.clip import Label
from train.evaluation.evaluate import ClipScore, Evaluation
from train.evaluation.metrics import Verdicts
from train.report.style import (
    ANOMALY,
    COLOURS,
    NAMES,
    NORMAL,
    QUIET,
    ReportFigure,
    draw_levels,
    draw_threshold,
    legend,
    logarithmic,
    render,
    row,
)

BAND = 0.1  # of the threshold, to either side
_BINS = 40
_WIDE = 5.0  # a larger ratio of scores is drawn on a logarithmic axis


def histograms(evaluation: Evaluation, unit: str) -> ReportFigure:
    """Scores of training, held-out, normal, anomalous and all clips, with the threshold of each level."""
    reading = (
        "Orange bars should be to the right of the dashed threshold, blue bars to its left."
        if evaluation.labelled("anomaly")
        else "Normal clips should be to the left of the dashed threshold; those to its right are false alarms."
    )
    title = "Histograms of the error"
    return _histograms(
        evaluation,
        lambda one: [one.score or 0.0],
        (evaluation.threshold, evaluation.alarm_threshold),
        unit,
        "clips",
        key="histograms",
        title=title,
        reading=reading,
    )


def segment_histograms(evaluation: Evaluation, unit: str) -> ReportFigure | None:
    """The same for segments, on which the device decides; None where no clip is long enough for one."""
    if not any(one.segments for one in evaluation.scores):
        return None
    reading = (
        "The same for segments, about as long as a clip, on which the device decides once a second. A few "
        "normal ones may be to the right of the line, because an alarm needs many in a row."
    )
    calibration = evaluation.bundle.manifest.calibration
    return _histograms(
        evaluation,
        lambda one: [score for _, score in one.segments],
        (float(calibration.threshold), calibration.alarm_threshold),
        unit,
        "segments",
        key="segments",
        title="Histograms of the segments' error",
        reading=reading,
    )


def _histograms(
    evaluation: Evaluation,
    scores_of: Callable[[ClipScore], Sequence[float]],
    levels: tuple[float, float | None],
    unit: str,
    counted: str,
    *,
    key: str,
    title: str,
    reading: str,
) -> ReportFigure:
    threshold, alarm = levels
    clips = {
        "training": evaluation.untested("training"),
        "cross-fitted": evaluation.untested("cross-fitted"),
        "held out": evaluation.untested("held out"),
        "normal": evaluation.labelled("normal"),
        "anomaly": evaluation.labelled("anomaly"),
    }
    scores = {name: np.array([score for one in some for score in scores_of(one)], np.float64) for name, some in clips.items()}
    of = {name: values for name, values in scores.items() if len(values)}

    def draw(figure: Figure) -> None:
        edges = _edges(np.concatenate([*of.values(), np.array([alarm or threshold])]), threshold)
        all_axes = row(figure, 2, n_rows=(len(of) + 2) // 2, sharex=True)
        for axes, (name, values) in zip(all_axes, of.items(), strict=False):
            axes.hist(values, list(edges), color=COLOURS[name], alpha=0.8)
            axes.set_title(f"{NAMES[name]}: {len(values)} {counted.removesuffix('s') if len(values) == 1 else counted}")
        together = all_axes[len(of)]
        for name, values in of.items():
            together.hist(values, list(edges), color=COLOURS[name], alpha=0.55, label=NAMES[name])
        together.set_title("all")
        for axes in all_axes[: len(of) + 1]:
            draw_levels(axes, threshold, alarm, vertical=True)
            axes.set_ylabel(counted)
            axes.tick_params(labelbottom=True)
            _score_axis(axes, edges, unit)
        legend(figure, together, n_columns=6)
        for axes in all_axes[len(of) + 1 :]:
            axes.remove()

    return render(draw, key=key, title=title, reading=reading, size=(9.5, 2.6 * ((len(of) + 2) // 2)))


def scatter(evaluation: Evaluation, unit: str) -> ReportFigure:
    """Every clip's score, with a band around the threshold."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        start = 0
        for label in ("normal", "anomaly"):
            scores = _scores(evaluation.labelled(label))
            at = start + np.arange(len(scores))
            axes.scatter(at, scores, s=18, color=COLOURS[label], alpha=0.7, linewidths=0, label=NAMES[label])
            start += len(scores)
        low, high = (1 - BAND) * evaluation.threshold, (1 + BAND) * evaluation.threshold
        axes.axhspan(low, high, color="black", alpha=0.1, linewidth=0, label=f"threshold ± {BAND:.0%}")
        draw_levels(axes, evaluation.threshold, evaluation.alarm_threshold, vertical=False)
        every = _scores(evaluation.test)
        if every.min() > 0 and every.max() / every.min() > _WIDE:
            logarithmic(axes, vertical=True)
        axes.set(xlabel="clip, in the order of their names", ylabel=unit)
        legend(figure, axes, n_columns=5)

    reading = (
        "Each dot is a clip. Blue above the dashed line: false alarm. Orange below it: missed fault. Dots in the grey "
        "band are borderline."
    )
    return render(draw, key="scatter", title="Score of every clip", reading=reading)


def sweep_figure(
    swept: Sequence[Verdicts], at: Verdicts, at_alarm: Verdicts | None, best: Verdicts | None, unit: str
) -> ReportFigure:
    """False positives and negatives over thresholds; `best` is marked as chosen on test labels."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        thresholds = [one.threshold for one in swept]
        false_positives = [one.false_positives for one in swept]
        axes.step(thresholds, false_positives, where="pre", color=NORMAL, label="false positives (false alarms)")
        if at.n_anomaly:
            false_negatives = [one.false_negatives for one in swept]
            axes.step(thresholds, false_negatives, where="pre", color=ANOMALY, label="false negatives (missed)")
        if at_alarm is None:
            draw_threshold(axes, at.threshold, vertical=True, label="the bundle's threshold")
        else:
            draw_levels(axes, at.threshold, at_alarm.threshold, vertical=True)
        if best is not None:
            label = f"best compromise {best.threshold:.4g} (chosen on test labels)"
            axes.axvline(best.threshold, color=QUIET, linestyle=":", linewidth=1.6, label=label)
        if thresholds[0] > 0 and thresholds[-1] / thresholds[0] > _WIDE:
            logarithmic(axes, vertical=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=f"threshold on the {unit}", ylabel="clips")
        axes.set_ylim(bottom=0)
        legend(figure, axes, n_columns=2)

    reading = (
        "A lower threshold misses fewer faults but raises more false alarms. At the dotted line both are equal, but it was "
        "chosen on test labels, so its figures are too optimistic."
        if best is not None
        else "The number of normal clips that each threshold would have flagged."
    )
    return render(draw, key="sweep", title="False positives and negatives over thresholds", reading=reading)


def float_figure(pairs: Mapping[Label, F64], unit: str) -> ReportFigure:
    """Score on the float32 model against that on the shipped one, of segments' pairs (n, 2) by label."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        for label, values in pairs.items():
            if len(values):
                axes.scatter(
                    values[:, 0],
                    values[:, 1],
                    s=12,
                    color=COLOURS[label],
                    alpha=0.5,
                    linewidths=0,
                    label=f"{NAMES[label]} segments",
                )
        low, high = axes.get_xlim()
        axes.plot((low, high), (low, high), color=QUIET, linewidth=1.0, label="the same")
        axes.set(xlabel=f"float32: {unit}", ylabel=f"as shipped: {unit}")
        legend(figure, axes)

    reading = "Dots on the line mean that quantisation to 8 bits did not change the scores."
    return render(draw, key="float", title="Float model against the shipped one", reading=reading, size=(5.5, 4.2))


def _scores(clips: Sequence[ClipScore]) -> F64:
    return np.array([one.score for one in clips], np.float64)


def _edges(scores: F64, threshold: float) -> F64:
    """Edges of about 40 equal bins, one of them at the threshold; logarithmic where the scores spread widely."""
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    wide = low > 0 and high / low > _WIDE
    to, back = (np.log, np.exp) if wide else (np.asarray, np.asarray)
    start, middle, stop = (float(to(value)) for value in (low, threshold, high))
    step = (stop - start) / _BINS or abs(middle) / _BINS or 1.0
    n_below, n_above = int((middle - start) // step) + 1, int((stop - middle) // step) + 1
    return np.asarray(back(middle + step * np.arange(-n_below, n_above + 1)), np.float64)


def _score_axis(axes: Axes, edges: F64, unit: str) -> None:
    axes.set_xlabel(unit)
    if edges[0] > 0 and edges[-1] / edges[0] > _WIDE:
        logarithmic(axes, vertical=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
