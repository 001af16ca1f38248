"""Run a plan: submit the steps of every machine, collect the outcomes, and resume when the scheduler was lost."""

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from monitor.errors import SinkError, StethosError, printable
from monitor.learning.report_text import count
from train.fleet.cluster import Cluster, SchedulerError, check_workers, distributed, wait_for_worker
from train.fleet.jobs import STEPS, Common, Done, Job, Step, software
from train.fleet.places import FAILURES, Store
from train.fleet.tasks import WorkerError, run_step

_AFTER: dict[Step, Step] = {"fit": "inspect", "evaluate": "fit", "rescore": "fit"}
_POLL_S, _CHECK_S = 0.2, 2.0  # between looks at outcomes, and at workers
_WAIT_S = 10.0  # for the scheduler and for a worker, before a message


class LostError(StethosError):
    """The scheduler was lost for too long."""


class Run:
    """The outcomes of a run so far, by machine and step. `report` receives each of them.

    `planned` are the machines of the whole plan; failures of others are forgotten.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        storage: Mapping[str, Any],
        *,
        planned: Collection[str],
        report: Callable[[Done], None],
    ) -> None:
        self._jobs = {job.machine: job for job in jobs}
        self._store, self._report, self._planned = store, report, planned
        self._failures: dict[str, dict[str, Any] | None] = {}
        self._common = Common(
            out=store.place,
            storage=dict(storage),
            versions=software(),
            source_date_epoch=os.environ.get("SOURCE_DATE_EPOCH"),
        )
        self._seen = 0.0  # the last time that a worker was connected
        self.outcomes: dict[str, dict[Step, Done]] = {job.machine: {} for job in jobs}

    @property
    def failed(self) -> list[str]:
        """The machines of which a step failed."""
        return [name for name, steps in self.outcomes.items() if any(done.status == "failed" for done in steps.values())]

    def go(self, cluster: Cluster, *, reconnect_s: float) -> None:
        """Run all steps. LostError where the scheduler, or every worker, is gone for `reconnect_s`.

        What was complete when the scheduler was lost is not done again, because its results are in the store.
        """
        wait_s, self._seen = min(_WAIT_S, reconnect_s), time.monotonic()
        self._write_failures({})  # an output that cannot be written is reported before hours of work
        while pending := [job for name, job in self._jobs.items() if len(self.outcomes[name]) < len(STEPS)]:
            try:
                with cluster.client(within_s=wait_s) as client:
                    if wait_for_worker(client, within_s=wait_s):
                        check_workers(client, self._store.place, self._common.storage)
                        self._collect(client, pending, reconnect_s=reconnect_s)
                    else:
                        _warn(f"no worker is connected to {cluster.scheduler}; to start one: dask worker {cluster.scheduler}")
            except (SchedulerError, OSError, TimeoutError, CancelledError) as error:
                if cluster.scheduler is None:
                    raise
                _warn(f"waiting for the scheduler: {error}")
            if time.monotonic() - self._seen > reconnect_s:
                n_complete = len(self._jobs) - len(pending)
                raise LostError(
                    f"{cluster.scheduler or 'this computer'}: no scheduler or worker reachable within {reconnect_s:.0f} s; "
                    f"this run has completed {n_complete} of {count(len(self._jobs), 'machine')}; "
                    "run the same command again to resume"
                )

    def _collect(self, client: Any, pending: Sequence[Job], *, reconnect_s: float) -> None:
        """Submit the steps of these machines and record the outcomes.

        Returns early when the scheduler is lost, or every worker for `reconnect_s`.
        """
        common = self._common.model_dump()
        tasks: dict[str, tuple[str, Step]] = {}
        futures: list[Any] = []
        for number, job in enumerate(pending):
            of: dict[Step, Any] = {}
            for step in STEPS:
                before = (of[_AFTER[step]],) if step in _AFTER else ()
                name = f"{step}-{job.machine}-{os.urandom(4).hex()}"
                of[step] = client.submit(run_step, step, job.model_dump(), common, *before, key=name, priority=-number)
                tasks[name] = job.machine, step
            futures += of.values()
        completed = distributed().as_completed(futures)
        while completed.count():
            for future in completed.next_batch(block=False):
                machine, step = tasks[future.key]
                if future.status == "error":
                    self._record(_died(future.exception(), machine, step, tasks))
                elif not future.cancelled():  # else the connection to the scheduler was lost
                    self._record(Done.model_validate(future.result()))
                future.release()  # else the step would run again whenever the worker that ran it dies
            time.sleep(_POLL_S)
            if time.monotonic() - self._seen < _CHECK_S:
                continue
            if wait_for_worker(client, within_s=0.0):
                self._seen = time.monotonic()
            elif time.monotonic() - self._seen > reconnect_s:
                return

    def _record(self, done: Done) -> None:
        steps = self.outcomes[done.machine]
        if done.step in steps:
            return
        steps[done.step] = done
        try:
            self._report(done)
        except OSError as error:  # not a lost scheduler
            why = error.strerror or error
            raise SinkError(f"the progress cannot be written: {why}; run the same command again to resume") from error
        if done.status == "failed":
            at = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._write_failures({done.machine: {**done.line(), "at": at}})
        elif len(steps) == len(STEPS) and done.machine not in self.failed and done.machine in self._failures:
            self._write_failures({done.machine: None})

    def _write_failures(self, changes: Mapping[str, dict[str, Any] | None]) -> None:
        """Change the failures of some machines; those of the others may be another run's."""
        stored = read_failures(self._store)
        self._failures = {**{name: entry for name, entry in stored.items() if name in self._planned}, **changes}
        kept = sorted((name, entry) for name, entry in self._failures.items() if entry is not None)
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for _, entry in kept]
        self._store.write(FAILURES, "".join(lines).encode("utf-8", "replace"))


def read_failures(store: Store) -> dict[str, dict[str, Any]]:
    """The last failure of each machine, from `failures.jsonl`; damaged lines are ignored."""
    found = {}
    for line in (store.read(FAILURES) or b"").splitlines():
        with suppress(ValueError, RecursionError, KeyError, TypeError):
            entry = json.loads(line)
            found[str(entry["machine"])] = dict(entry)
    return found


def _died(error: BaseException, machine: str, step: Step, tasks: Mapping[str, tuple[str, Step]]) -> Done:
    """The outcome of a task that raised instead of returning one. What must stop the run is raised."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, ModuleNotFoundError):
        raise WorkerError(f"a worker cannot import {error.name}: pip install 'stethos[train,fleet]' there") from error
    if isinstance(error, StethosError | CancelledError):
        raise error
    if not isinstance(error, KilledWorker):
        return Done(machine=machine, step=step, status="failed", error=printable(f"{type(error).__name__}: {error}")[:500])
    if tasks.get(str(error.task), (machine, step))[1] != step:  # a later step of the same machine
        return Done(machine=machine, step=step, status="skipped")
    text = f"{count(error.allowed_failures + 1, 'worker')} died while running it; the last was {error.last_worker.address}"
    return Done(machine=machine, step=step, status="failed", error=text)


def _warn(text: str) -> None:
    print(f"train: {printable(text)[:300]}", file=sys.stderr)
