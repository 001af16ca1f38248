"""Which of two reports is of the better bundle, in words, as far as the clips can tell."""

import csv
from pathlib import Path

import numpy as np

from monitor.learning.report_text import count
from train.evaluation.paired import Paired, compare_paired
from train.report.verdict import State, Verdict

_CHANCE = 0.05  # a smaller probability of chance counts as a difference
_FILES = "files.csv"
Rows = dict[tuple[str, str], dict[str, str]]  # of files.csv, by file and start


def better(one: Path, other: Path, *, is_same_data: bool, doubts: list[str]) -> Verdict:
    """Compare the clips that both folders have tested: scores by a paired bootstrap, verdicts by McNemar's test."""
    names = (f"A ({one.resolve().name})", f"B ({other.resolve().name})")
    left, right = _rows(one), _rows(other)
    shared = [key for key in left if key in right and left[key]["label"] == right[key]["label"]]
    roles = {key: {left[key]["role"], right[key]["role"]} for key in shared}
    if any(roles[key] == {"test"} and left[key]["label"] == "normal" for key in shared):
        shared = [key for key in shared if roles[key] == {"test"}]
    shared = [key for key in shared if "training" not in roles[key]]
    if not shared or not is_same_data:
        return Verdict(
            state="unknown",
            headline="It cannot be told which is better: they were not tested on the same clips",
            findings=(),
            doubts=tuple(doubts),
            next_step="evaluate both bundles on the same recordings",
        )
    anomaly = np.array([left[key]["label"] == "anomaly" for key in shared])
    scores = [np.array([float(rows[key]["score"]) for key in shared]) for rows in (left, right)]
    called = [np.array([rows[key]["verdict"] == "anomaly" for key in shared]) for rows in (left, right)]
    paired = compare_paired(anomaly, (scores[0], called[0]), (scores[1], called[1]))
    right_of = [int(np.sum(one == anomaly)) for one in called]
    return _words(paired, names, right_of, doubts)


def _rows(folder: Path) -> Rows:
    """The clips with a score; empty where the folder has no list of them."""
    path = folder / _FILES
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["file"], row["start_s"]): row for row in csv.DictReader(file) if row["score"]}


def _words(paired: Paired, names: tuple[str, str], right_of: list[int], doubts: list[str]) -> Verdict:
    n = paired.n_normal + paired.n_anomaly
    separates = None
    findings = []
    if paired.areas is not None and paired.interval is not None:
        low, high = paired.interval.low, paired.interval.high
        separates = 1 if low > 0 else 0 if high < 0 else None
        chance = "may be chance" if separates is None else "is more than chance"
        difference = f"{100 * low:+.0f} to {100 * high:+.0f} percentage points with 95 % confidence"
        findings.append(
            f"An anomalous clip scores above a normal one in {paired.areas[0]:.0%} of all pairs with A and in "
            f"{paired.areas[1]:.0%} with B: the difference {chance} ({difference})."
        )
    decides = None if paired.chance >= _CHANCE else int(paired.only_b > paired.only_a)
    differ = paired.only_a + paired.only_b
    agree = f", and they disagree about {differ}: that {'may be' if decides is None else 'is more than'} chance" if differ else ""
    findings.append(f"At their thresholds A is right about {right_of[0]} and B about {right_of[1]} of {count(n, 'clip')}{agree}.")
    winners = {which for which in (separates, decides) if which is not None}
    state: State = "normal"
    if len(winners) == 1:
        (winner,) = winners
        headline, next_step = f"{names[winner]} is better", f"use the bundle of {names[winner]}"
    elif separates is not None:
        state, headline = "warning", f"{names[separates]} separates better, but its threshold is worse"
        next_step = f"calibrate the bundle of {names[separates]} on more normal sound (train calibrate) and compare again"
    else:
        clips = f"{paired.n_normal} normal and {paired.n_anomaly} anomalous clips"
        state, headline = "unknown", f"It cannot be told which is better from {clips}"
        next_step = "keep the one in use, or test both with more clips, above all of weak faults"
    return Verdict(state=state, headline=headline, findings=tuple(findings), doubts=tuple(doubts), next_step=next_step)
