"""`train evaluate`: from a bundle and a data set to a report."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from train.cli.arguments import Commands, add_dataset_options, count, dataset_of

if TYPE_CHECKING:
    from train.evaluation.metrics import Verdicts


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="score a data set with a bundle and write a report",
        description="Score every clip of DATASET with the bundle's exported model, as the device would, and write a page "
        "with figures, tables as CSV and metrics.json.",
    )
    evaluate.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle (models/NAME)")
    evaluate.add_argument("dataset", type=Path, metavar="DATASET", help="folder of the data set")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR", help="the report to write or replace")
    add_dataset_options(evaluate, split="the training clips (default: the bundle's own lists, on the data it was trained on)")
    evaluate.add_argument(
        "--resamples", type=count, default=1000, metavar="N", help="number of bootstrap resamples (default 1000)"
    )
    evaluate.add_argument("--commit", metavar="ID", help="commit to name in the report (default: from git, in a checkout)")
    evaluate.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from train.evaluation.evaluate import evaluate
    from train.report import write_report
    from train.report.summary import at_alarm_level
    from train.report.write import PAGE, check_out

    check_out(arguments.out)
    dataset = dataset_of(arguments.dataset, arguments)
    evaluation = evaluate(arguments.bundle, dataset, split=arguments.split, channel=arguments.channel)
    results = write_report(evaluation, arguments.out, n_resamples=arguments.resamples, commit=arguments.commit)
    at = results.at
    found = f"{at.true_positives} of {_count(at.n_anomaly, 'anomalous clip')} detected, " if at.n_anomaly else ""
    areas = "" if results.auc.value is None else f", AUC {results.auc.value:.3f}, pAUC {results.pauc.value:.3f}"
    print(f"{found}{_count(at.false_positives, 'false alarm')} on {_count(at.n_normal, 'normal clip')}{areas}")
    if at.n_anomaly:
        print(f"at the bundle's threshold {_rates(at)}")
    if results.at_alarm is not None:
        print(at_alarm_level(results.at_alarm))
    if results.best is not None:
        print(f"at the best compromise, chosen on test labels, {_rates(results.best)}")
    print(f"wrote {arguments.out / PAGE}")
    print(f"next: train report --compare {arguments.out} OTHER --out DIR compares it with another bundle's report")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _rates(at: "Verdicts") -> str:
    from train.report.page import number

    shares = {"accuracy": at.accuracy, "precision": at.precision, "recall": at.recall, "F1": at.f1}
    return f"{at.threshold:.4g}: " + ", ".join(f"{name} {number(value)}" for name, value in shares.items())
