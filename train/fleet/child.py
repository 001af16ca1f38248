"""Run one step of one machine in a child process with one thread, limits of memory and time, and a scratch folder."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from monitor.child_process import child_command
from train.fleet.jobs import Common, Done, Job, Step

RESULT, LOG = "result.json", "log"
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)
_POLL_S = 0.05
_MAX_LOG = 4000  # characters of the end of the log that are kept


def run_child(step: Step, job: Job, common: Common, before: dict[str, Any]) -> Done:
    """Run the step and return its outcome; a failure is one too. The scratch folder is removed, even after SIGKILL."""
    scratch = Path(tempfile.mkdtemp(prefix="stethos-fleet-"))
    try:
        with _removed_when_both_are_gone(scratch) as held_open:
            return _run(step, job, common, before, scratch, held_open=held_open)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _removed_when_both_are_gone(scratch: Path) -> Iterator[int]:
    """A file descriptor for the child. When this process and the child have closed it, or died, the scratch folder is removed.

    The child must not remove it while it may still be publishing from it.
    """
    reads, writes = os.pipe()
    silent = subprocess.DEVNULL
    remove = ["sh", "-c", 'cat >/dev/null; rm -rf -- "$1"', "sh", str(scratch)]
    try:
        remover = subprocess.Popen(remove, stdin=reads, stdout=silent, stderr=silent, start_new_session=True)
    except BaseException:
        os.close(writes)
        raise
    finally:
        os.close(reads)
    try:
        yield writes
    finally:
        os.close(writes)
        remover.wait()


def _run(step: Step, job: Job, common: Common, before: dict[str, Any], scratch: Path, *, held_open: int) -> Done:
    environment = {**os.environ, **_ONE_THREAD, "TMPDIR": str(scratch), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("SOURCE_DATE_EPOCH", None)
    if common.source_date_epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = common.source_date_epoch
    request = {"step": step, "job": job.model_dump(), "common": common.model_dump(), "before": before}
    began = time.monotonic()
    with (scratch / LOG).open("wb") as log:
        child = subprocess.Popen(
            child_command("train.fleet.steps", str(scratch)),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=scratch,
            env=environment,
            pass_fds=(held_open,),
            start_new_session=True,  # Ctrl-C is for the command, which ends its workers, which end their children
        )
    assert child.stdin is not None
    try:
        with suppress(BrokenPipeError):  # it has died, and the log says why
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        status, usage, excess = _watch(child, job)
    finally:
        with suppress(ProcessLookupError):
            if child.returncode is None:
                child.kill()
                child.wait()
        with suppress(OSError):
            child.stdin.close()  # until here it is open: at its end the child knows that its worker has died
    measured = {
        "seconds": round(time.monotonic() - began, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }
    log_end = (scratch / LOG).read_bytes()[-_MAX_LOG:].decode("utf-8", "replace")
    result = _result(scratch / RESULT)
    if excess is not None:
        error = excess
    elif "error" in result:
        error = str(result["error"])
    elif status != 0:
        error = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    else:
        key = result.get("key") or before.get("key")
        return Done(machine=job.machine, step=step, status="done", key=key, numbers=result.get("numbers", {}), **measured)
    return Done(machine=job.machine, step=step, status="failed", key=before.get("key"), error=error, detail=log_end, **measured)


def _watch(child: "subprocess.Popen[bytes]", job: Job) -> tuple[int, Any, str | None]:
    """Wait for the child's end: its exit status, its use of resources, and the limit for which it was killed."""
    process, ends, excess = psutil.Process(child.pid), time.monotonic() + job.timeout_s, None
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage, excess
        with suppress(psutil.Error):
            used_mb = process.memory_info().rss / (1 << 20)
            if excess is None and used_mb > job.memory_mb:
                excess = f"used {used_mb:.0f} MB of memory, {job.memory_mb} MB are allowed: set memory_mb in the plan"
        if excess is None and time.monotonic() > ends:
            excess = f"took more than {job.timeout_s} s: set timeout_s in the plan"
        if excess is not None:
            os.kill(child.pid, signal.SIGKILL)  # child.kill() may reap it, and lose its use of resources
        time.sleep(_POLL_S)


def _result(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}
