"""The Dask tasks: one step of one machine each, which receive and return small mappings."""

from collections.abc import Mapping
from typing import Any

from monitor.errors import StethosError
from train.fleet.child import run_child
from train.fleet.jobs import Common, Done, Job, Step, software
from train.fleet.places import FAILURES, Store, in_words, indented_json
from train.fleet.summaries import FIT_NUMBERS, LATEST, Evaluated, Fitted, Scored, read_summary

FOLDERS: dict[Step, str] = {
    "fit": "bundles/{machine}/{key}",
    "evaluate": "reports/{machine}/{key}",
    "rescore": "scores/{machine}",
}


KINDS: dict[Step, type[Fitted | Evaluated | Scored]] = {"fit": Fitted, "evaluate": Evaluated, "rescore": Scored}


class WorkerError(StethosError):
    """A worker runs other software than the command, or does not reach the output."""


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str | None:
    """The first package whose version differs, in words."""
    for name, version in wanted.items():
        if found.get(name) != version:
            return f"has {name} {found.get(name, 'not installed')}, the command {version}: install the same versions"
    return None


def reaches(out: str, storage: dict[str, Any]) -> bool:
    """Whether this worker sees the output that the command has begun."""
    return Store(out, storage).read(FAILURES) is not None


def run_step(step: Step, job: dict[str, Any], common: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a step unless its result is there or the step before it has failed; returns a `Done`. WorkerError stops the run."""
    if (differs := difference(software(), common["versions"])) is not None:
        raise WorkerError(f"the worker {_worker()} {differs}")
    one, shared = Job.model_validate(job), Common.model_validate(common)
    try:
        done = _run_step(step, one, shared, before or {})
    except (StethosError, OSError) as error:
        done = Done(machine=one.machine, step=step, status="failed", key=(before or {}).get("key"), error=in_words(error))
    return done.model_copy(update={"worker": _worker()}).model_dump()


def _run_step(step: Step, job: Job, common: Common, before: dict[str, Any]) -> Done:
    key = before.get("key")
    if before.get("status") in ("failed", "skipped"):
        return Done(machine=job.machine, step=step, status="skipped", key=key)
    if step == "inspect":
        return run_child(step, job, common, before)
    if step == "evaluate" and not before["numbers"]["n_anomaly"]:
        return Done(machine=job.machine, step=step, status="skipped", key=key)
    store = Store(common.out, common.storage)
    there = read_summary(store, FOLDERS[step].format(machine=job.machine, key=key), KINDS[step])
    if there is not None and there.key == key:
        numbers = there.model_dump(include=FIT_NUMBERS)
        done = Done(machine=job.machine, step=step, status="kept", key=key, numbers=numbers)
    else:
        done = run_child(step, job, common, before)
    if step == "fit" and done.status != "failed":
        _point_to(store, job.machine, str(key))
        return done.model_copy(update={"numbers": {**done.numbers, "listed": before["numbers"]["listed"]}})
    return done


def _point_to(store: Store, machine: str, key: str) -> None:
    """Update `latest.json`, for those who install bundles."""
    name, content = f"bundles/{machine}/{LATEST}", {"machine": machine, "key": key, "bundle": f"bundles/{machine}/{key}"}
    if store.read_json(name) != content:
        store.write(name, indented_json(content))


def _worker() -> str:
    """The address of the Dask worker; empty outside one."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""
