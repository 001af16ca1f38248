"""`train evaluate`: from a bundle and a data set to a report."""

import argparse
from pathlib import Path

from train.cli.arguments import Commands, add_dataset_options, count, dataset_of


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
    from train.report.write import PAGE, check_out

    check_out(arguments.out)
    dataset = dataset_of(arguments.dataset, arguments)
    evaluation = evaluate(arguments.bundle, dataset, split=arguments.split, channel=arguments.channel)
    said = write_report(evaluation, arguments.out, n_resamples=arguments.resamples, commit=arguments.commit)
    print("\n".join((*said.lines, f"wrote {arguments.out / PAGE}", f"next: {said.next_step}")))
