"""`train fleet`: bundles, reports and scores of many machines, on all cores or on a cluster."""

import argparse
import os
import sys
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.errors import StethosError, UsageError
from monitor.learning.report_text import count
from train.cli.arguments import Commands, positive
from train.cli.arguments import count as whole_number

if TYPE_CHECKING:
    from train.fleet.jobs import Job
    from train.fleet.places import Store

PACKAGES = ("cryptography", "dask", "distributed", "fsspec", "pyarrow", "s3fs")  # of the extra `fleet`
_PLAN = """\
a plan of one line, for folders plant/HALL/MACHINE with recordings as `train fit` takes them:
  machines: [{recordings: "plant/{hall}/{machine}"}]
what is complete in URL is not done again, so an interrupted run resumes with the same command; see docs/fleet-training.md
"""


class FailedError(StethosError):
    """Some machines failed."""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    fleet = commands.add_parser(
        "fleet",
        help="fit, evaluate and score many machines, on all cores or on a Dask cluster",
        description="Write bundles/, reports/ and scores/ of all machines in PLAN, failures.jsonl, fleet.json and fleet.html.",
        epilog=_PLAN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fleet.add_argument("plan", type=Path, metavar="PLAN", help="YAML file that names recordings, recipe and groups")
    fleet.add_argument("--out", required=True, metavar="URL", help="folder, or URL such as s3://BUCKET/FOLDER")
    fleet.add_argument("--only", action="append", metavar="PATTERN", help="only machines whose names match, such as 'hall1-*'")
    fleet.add_argument("--retry-failed", action="store_true", help="only the machines in failures.jsonl")
    fleet.add_argument("--workers", type=whole_number, metavar="N", help="processes on this computer (default: its cores)")
    fleet.add_argument("--scheduler", metavar="URL", help="Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT")
    fleet.add_argument("--tls-ca", type=Path, metavar="FILE", help="certificate authority of the cluster")
    fleet.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate of this computer")
    fleet.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")
    fleet.add_argument(
        "--reconnect",
        type=positive,
        default=300.0,
        metavar="S",
        help="seconds to wait for a lost scheduler (default 300)",
    )
    fleet.add_argument("--json", action="store_true", help="one JSON line per step (default where stdout is no terminal)")
    fleet.set_defaults(run=_run, extra="train,fleet")


def _run(arguments: argparse.Namespace) -> None:
    for name in (*PACKAGES, "tensorflow", "jinja2"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    from tqdm import tqdm

    from monitor.json_lines import JsonLines
    from train.fleet.cluster import Cluster
    from train.fleet.jobs import STEPS, Done
    from train.fleet.places import Store, is_remote
    from train.fleet.plan import load_plan
    from train.fleet.results import PAGE, write_results
    from train.fleet.run import Run

    if arguments.scheduler is not None and arguments.workers is not None:
        raise UsageError("--workers requires a run on this computer, without --scheduler")
    cluster = Cluster(
        scheduler=arguments.scheduler,
        n_workers=arguments.workers or os.cpu_count() or 1,
        tls_ca=arguments.tls_ca,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
    )
    every, storage = load_plan(arguments.plan)
    out = arguments.out.removeprefix("file://")
    out = out.rstrip("/") if is_remote(out) else str(Path(out).resolve())
    store = Store(out, storage.options())
    jobs = _chosen(every, arguments, store)
    lines = JsonLines(sys.stdout) if arguments.json or not sys.stdout.isatty() else None
    with tqdm(total=len(STEPS) * len(jobs), desc="fleet", unit="step", disable=None, leave=False) as bar:

        def report(done: Done) -> None:
            bar.update()
            if lines is not None:
                lines.write(done.line())
            elif done.status == "failed":
                bar.write(f"{done.machine}: {done.step} failed: {done.error}")
            bar.set_postfix_str(f"last: {done.machine} {done.step}")

        planned = {job.machine for job in every}
        run = Run(jobs, store, storage.options(), planned=planned, report=report)
        try:
            run.go(cluster, reconnect_s=arguments.reconnect)
        except KeyboardInterrupt:
            n_done = sum(len(steps) == len(STEPS) for steps in run.outcomes.values())
            done = f"{n_done} of {count(len(jobs), 'machine')} complete"
            raise KeyboardInterrupt(f"{done}; run the same command again to resume") from None
        finally:
            if any(run.outcomes.values()):
                rows = write_results(store, every, run.outcomes)
    n_needed = sum(bool(row.needs) for row in rows)
    needs = f"{count(n_needed, 'machine')} {'needs' if n_needed == 1 else 'need'} attention" if n_needed else "all are fine"
    print(f"wrote {store.path(PAGE)}: {count(len(rows), 'machine')}; {needs}", file=sys.stdout if lines is None else sys.stderr)
    if run.failed:
        names = ", ".join(run.failed[:5]) + (f" and {len(run.failed) - 5} more" if len(run.failed) > 5 else "")
        raise FailedError(f"{count(len(run.failed), 'machine')} failed: {names}; see {store.path('failures.jsonl')}")


def _chosen(jobs: "list[Job]", arguments: argparse.Namespace, store: "Store") -> "list[Job]":
    """The machines that the options choose; UsageError where they choose none."""
    from train.fleet.run import read_failures

    found = jobs
    if arguments.only:
        for pattern in arguments.only:
            if not any(fnmatchcase(job.machine, pattern) for job in jobs):
                names = ", ".join(job.machine for job in jobs[:10]) + (", …" if len(jobs) > 10 else "")
                raise UsageError(f"--only must match one of the {count(len(jobs), 'machine')} ({names}), got {pattern}")
        found = [job for job in found if any(fnmatchcase(job.machine, pattern) for pattern in arguments.only)]
    if arguments.retry_failed:
        failed = read_failures(store)
        found = [job for job in found if job.machine in failed]
        if not found:
            raise UsageError(f"--retry-failed: {store.path('failures.jsonl')} names none of these machines")
    return found
