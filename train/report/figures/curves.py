"""Figures of detection performance: ROC, precision-recall, confusion matrix, groups; and the loss curves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn import metrics

from monitor.arrays import F64, Bool
from train.evaluation.groups import Group
from train.evaluation.metrics import MAX_FPR, Verdicts
from train.report.style import ANOMALY, NORMAL, QUIET, ReportFigure, legend, render, row


def roc(anomaly: Bool, scores: F64, at: Verdicts) -> ReportFigure:
    """Detected anomalies against false alarms, over all thresholds."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        false_rate, true_rate, _ = metrics.roc_curve(anomaly, scores)
        axes.axvspan(0, MAX_FPR, color=NORMAL, alpha=0.08, linewidth=0, label=f"where pAUC is measured (up to {MAX_FPR:g})")
        axes.plot(false_rate, true_rate, color=ANOMALY, label="this bundle")
        axes.plot((0, 1), (0, 1), color=QUIET, linewidth=0.8, linestyle=":", label="guessing")
        axes.plot([at.false_alarm_rate or 0.0], [at.recall or 0.0], "ko", label="at the bundle's threshold")
        axes.set(xlabel="share of normal clips flagged", ylabel="share of anomalous clips detected", aspect="equal")
        legend(figure, axes, n_columns=2)

    reading = "The closer the curve is to the upper left corner, the more faults are detected at the same rate of false alarms."
    return render(draw, key="roc", title="ROC curve", reading=reading, size=(5.4, 4.8))


def precision_recall(anomaly: Bool, scores: F64, at: Verdicts) -> ReportFigure:
    """Precision against recall, over all thresholds."""

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        precision, recall, _ = metrics.precision_recall_curve(anomaly, scores)
        axes.step(recall, precision, where="post", color=ANOMALY, label="this bundle")
        share = float(np.mean(anomaly))
        axes.axhline(share, color=QUIET, linewidth=0.8, linestyle=":", label=f"guessing ({share:.2f} of the clips are anomalous)")
        if at.precision is not None:
            axes.plot([at.recall or 0.0], [at.precision], "ko", label="at the bundle's threshold")
        axes.set(xlabel="recall: share of anomalous clips detected", ylabel="precision: share of alarms that are correct")
        axes.set(ylim=(0, 1.05), aspect="equal")
        legend(figure, axes, n_columns=1)

    reading = "Further up and to the right is better. The curve depends on the share of anomalous clips in the test."
    return render(draw, key="pr", title="Precision-recall curve", reading=reading, size=(5.4, 4.8))


def confusion(at: Verdicts, at_alarm: Verdicts | None, best: Verdicts | None) -> ReportFigure:
    """Confusion matrices at the bundle's threshold or levels, and at the best compromise, which is marked as such."""
    of = {f"the bundle's threshold, {at.threshold:.4g}": at}
    if at_alarm is not None:
        of = {f"warning or alarm, from {at.threshold:.4g}": at, f"alarm, from {at_alarm.threshold:.4g}": at_alarm}
    if best is not None:
        of[f"best compromise, {best.threshold:.4g}\n(chosen on test labels)"] = best

    def draw(figure: Figure) -> None:
        for axes, (title, verdicts) in zip(row(figure, len(of)), of.items(), strict=True):
            _draw_confusion(axes, verdicts)
            axes.set_title(title)

    reading = "Upper right: false alarms. Lower left: missed faults. Percentages are shares of each row."
    return render(draw, key="confusion", title="Confusion matrix", reading=reading, size=(4.2 * len(of), 4.0))


def _draw_confusion(axes: Axes, at: Verdicts) -> None:
    counts = np.array(((at.true_negatives, at.false_positives), (at.false_negatives, at.true_positives)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (line, column), count in np.ndenumerate(counts):
        colour = "white" if shares[line, column] > 0.5 else "black"
        text = f"{count}\n{shares[line, column]:.1%}"
        axes.text(column, line, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks((0, 1), ("normal", "anomalous"))
    axes.set_yticks((0, 1), ("normal", "anomalous"), rotation=90, va="center")
    axes.set(xlabel="verdict", ylabel="label")
    axes.grid(False)


def group_figure(groups: Sequence[Group]) -> ReportFigure:
    """AUC of each group with its interval."""
    shown = [group for group in groups if group.auc is not None]

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        for at, group in enumerate(reversed(shown)):
            if group.auc is not None:
                axes.plot(group.auc, at, "o", color=ANOMALY)
            if group.auc_interval is not None:
                axes.plot((group.auc_interval.low, group.auc_interval.high), (at, at), color=ANOMALY, linewidth=2, alpha=0.6)
        axes.axvline(0.5, color=QUIET, linestyle=":", linewidth=1.0)
        axes.set_yticks(range(len(shown)), [f"{group.kind} {group.name}" for group in reversed(shown)])
        axes.set(xlabel="AUC (0.5 is guessing, 1 perfect) with its 95% interval", ylim=(-0.7, len(shown) - 0.3))

    reading = "Dots far to the right are groups that the bundle separates well. A long bar means too few clips for certainty."
    size = (9.0, 1.2 + 0.3 * len(shown))
    return render(draw, key="groups", title="AUC by machine, id, section and domain", reading=reading, size=size)


def losses(history: Mapping[str, Sequence[float]]) -> ReportFigure:
    """Training and validation loss per epoch."""
    names = {"loss": "training", "val_loss": "validation"}

    def draw(figure: Figure) -> None:
        (axes,) = row(figure, 1)
        for key, colour in (("loss", NORMAL), ("val_loss", ANOMALY)):
            if values := history.get(key):
                axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=names[key])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel="loss")
        legend(figure, axes)

    reading = "Both curves should fall and level off. If the validation loss rises again, the model overfits."
    return render(draw, key="losses", title="Loss curves", reading=reading)
