"""The state of all machines of a plan, from what is complete in the store: fleet.json and the page fleet.html."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from monitor import __version__
from monitor.errors import SinkError
from monitor.learning.report_text import count, duration, significant
from monitor.learning.thresholds import ENOUGH_RECORDINGS
from train.datasets.sessions.order import ONE_SESSION, UNKNOWN_SESSIONS
from train.fleet.jobs import Done, Job, Step
from train.fleet.places import Store, indented_json
from train.fleet.run import read_failures
from train.fleet.summaries import LATEST, Day, Evaluated, Fitted, Latest, Scored, read_summary
from train.fleet.tasks import FOLDERS

PAGE, SUMMARY = "fleet.html", "fleet.json"
_N_READERS = 16
_RISEN = 3.0  # standard deviations of normal scores
FAILED, INCOMPLETE, MISSES, RISES, LITTLE, WARNED, FINE = range(7)  # the worst first


@dataclass(kw_only=True)
class Row:
    """One machine. Paths are relative to the output; `needs` are the reasons why a person should look, the worst first."""

    machine: str
    group: str
    rank: int = FINE
    needs: list[str] = field(default_factory=list)
    key: str | None = None
    bundle: str | None = None
    report: str | None = None
    hours: float | None = None
    n_recordings: int | None = None
    n_sessions: int | None = None
    promised_per_week: float | None = None  # false warnings, or false events where there is one level
    promised_alarms_per_week: float | None = None
    is_verified: bool = False
    auc: float | None = None
    found: int | None = None
    missed: int | None = None
    false_alarms: int | None = None
    n_normal: int | None = None
    drift: float | None = None  # rise of the last day's median score over that of training, standard deviations
    days: list[dict[str, Any]] = field(default_factory=list)
    nearest: str | None = None
    nearest_db: float | None = None

    def need(self, rank: int, reason: str) -> None:
        """Add a reason."""
        self.needs.append(reason)
        self.rank = min(self.rank, rank)

    @property
    def has_failed(self) -> bool:
        """Whether a step failed, or its result is damaged."""
        return self.rank == FAILED

    @property
    def last_ratio(self) -> float | None:
        """The median ratio of the last day."""
        return self.days[-1]["median_ratio"] if self.days else None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the store has of a machine; `problem` is a damaged file."""

    job: Job
    fitted: Fitted | None = None
    evaluated: Evaluated | None = None
    scored: Scored | None = None
    problem: str | None = None


def write_results(store: Store, jobs: Sequence[Job], outcomes: Mapping[str, Mapping[Step, Done]]) -> list[Row]:
    """Write fleet.json and fleet.html for all machines of the plan, the worst first; returns the rows."""
    from train.fleet.page import render

    failures = read_failures(store)
    with ThreadPoolExecutor(_N_READERS) as pool:
        found = list(pool.map(lambda job: _read(store, job), jobs))
    rows = [_row(one, failures.get(one.job.machine), _key_now(outcomes.get(one.job.machine, {}))) for one in found]
    _compare(rows, {one.job.machine: one.fitted for one in found if one.fitted is not None})
    rows.sort(key=lambda row: (row.rank, -(row.last_ratio or 0.0), row.machine))
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ran = [done for steps in outcomes.values() for done in steps.values() if done.status in ("done", "failed")]
    content = {
        "schema": 1,
        "stethos": __version__,
        "created": now,
        "machines": [{**asdict(row), "status": _status(row)} for row in rows],
        "run": {
            "steps": len(ran),
            "cpu_s": round(sum(done.cpu_s for done in ran), 1),
            "peak_mb": max((done.peak_mb for done in ran), default=0.0),
        },
    }
    store.write(SUMMARY, indented_json(content))
    store.write(PAGE, render(rows, now=now))
    return rows


def _status(row: Row) -> str:
    return {FAILED: "failed", INCOMPLETE: "incomplete"}.get(row.rank, "complete")


def _read(store: Store, job: Job) -> _Found:
    """The machine's latest bundle, and the report and the scores that belong to it."""
    name, key = job.machine, ""

    def folder(step: Step) -> str:
        return FOLDERS[step].format(machine=name, key=key)

    try:
        latest = read_summary(store, f"bundles/{name}", Latest, file=LATEST)
        key = "" if latest is None else latest.key
        if latest is None or (fitted := read_summary(store, folder("fit"), Fitted)) is None:
            return _Found(job=job)
        evaluated, scored = read_summary(store, folder("evaluate"), Evaluated), read_summary(store, folder("rescore"), Scored)
        if any((one.machine, one.key) != (name, key) for one in (fitted, evaluated) if one is not None):
            raise SinkError(f"{store.path(folder('fit'))}: belongs to another machine or key; delete it and run again")
        return _Found(
            job=job,
            fitted=fitted,
            evaluated=evaluated,
            scored=scored if scored is not None and scored.key == key else None,
        )
    except SinkError as error:
        return _Found(job=job, problem=str(error))


def _key_now(steps: Mapping[Step, Done]) -> str | None:
    """The key of the plan and the recordings now, where this run has found it."""
    return steps["inspect"].key if "inspect" in steps else None


def _row(of: _Found, failure: dict[str, Any] | None, key_now: str | None) -> Row:
    row, fitted = Row(machine=of.job.machine, group=of.job.group), of.fitted
    if failure is not None:
        row.need(FAILED, f"{failure.get('step')} failed: {failure.get('error')}")
    if of.problem is not None:
        row.need(FAILED, of.problem)
    if fitted is not None and key_now not in (None, fitted.key):
        row.need(INCOMPLETE, "plan or recordings have changed since it was trained")
    if fitted is None:
        if not row.needs:
            row.need(INCOMPLETE, "not trained yet")
        return row
    row.key, row.bundle = fitted.key, FOLDERS["fit"].format(machine=row.machine, key=fitted.key)
    row.hours, row.n_recordings, row.n_sessions = fitted.hours, fitted.n_recordings, fitted.n_sessions
    row.promised_per_week, row.promised_alarms_per_week = fitted.promised_per_week, fitted.promised_alarms_per_week
    bound, aim = fitted.bound_95_per_week, fitted.promised_per_week
    row.is_verified = bound is not None and aim is not None and bound <= aim
    if of.evaluated is not None:
        row.report = f"{FOLDERS['evaluate'].format(machine=row.machine, key=fitted.key)}/index.html"
        row.auc, row.found, row.missed = of.evaluated.auc, of.evaluated.found, of.evaluated.missed
        row.false_alarms, row.n_normal = of.evaluated.false_alarms, of.evaluated.n_normal
        if row.missed:
            row.need(MISSES, f"misses {row.missed} of {count(row.missed + of.evaluated.found, 'anomalous recording')}")
    if of.scored is not None and of.scored.days:
        row.days = [day.model_dump() for day in of.scored.days]
        _check_drift(row, fitted, of.scored.days[-1])
    if not fitted.is_enough:
        sound = f"{duration(fitted.hours, 2)} in {count(fitted.n_recordings, 'recording')}"
        row.need(LITTLE, f"too little sound to find more than severe faults: {sound}; record at least {ENOUGH_RECORDINGS}")
    for warning in fitted.warnings:
        if warning not in (ONE_SESSION, UNKNOWN_SESSIONS):
            row.need(WARNED, warning)
    return row


def _check_drift(row: Row, fitted: Fitted, last: Day) -> None:
    if last.median_score is not None and fitted.score_mean is not None and fitted.score_std:
        row.drift = round((last.median_score - fitted.score_mean) / fitted.score_std, 2)
    if last.median_ratio is not None and last.median_ratio >= 1.0:
        row.need(RISES, f"normal sound of {last.day} is at {significant(last.median_ratio, 2)} x the threshold")
    elif row.drift is not None and row.drift >= _RISEN and len(row.days) > 1:
        row.need(RISES, f"scores of {last.day} are {significant(row.drift, 2)} standard deviations above those of training")


def _compare(rows: Sequence[Row], bundles: Mapping[str, Fitted]) -> None:
    """Name for each machine the one with the nearest mean spectrum, among those with the same front end.

    The distance is the root mean square over the bands, dB, without the difference in level, which depends on the microphone.
    """
    by_front_end: dict[tuple[str, int], list[str]] = {}
    for machine, fitted in bundles.items():
        by_front_end.setdefault((fitted.front_end, len(fitted.spectrum_db)), []).append(machine)
    at = {row.machine: row for row in rows}
    for names in by_front_end.values():
        if len(names) < 2:
            continue
        levels = np.array([bundles[name].spectrum_db for name in names])
        levels -= levels.mean(axis=1, keepdims=True)
        for number, name in enumerate(names):
            distances = np.sqrt(np.mean((levels - levels[number]) ** 2, axis=1))
            distances[number] = np.inf
            nearest = int(np.argmin(distances))
            at[name].nearest, at[name].nearest_db = names[nearest], round(float(distances[nearest]), 2)
