"""The child process that sends one message, so that Apprise and its hundred services are never part of the daemon."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass

from monitor.child_process import child_command
from monitor.notify.job import Job
from monitor.notify.send import MAX_REASON

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt."""

    error: str | None  # None: sent


class Sending:
    """One child process. `poll` until it returns an outcome for each job."""

    def __init__(self, *jobs: Job, timeout_s: float) -> None:
        """Start the child; OSError if that is impossible."""
        self._n = len(jobs)
        self._timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        with os.fdopen(os.memfd_create("job"), "w+b") as file:  # in memory: it holds a secret, and may exceed a pipe
            file.writelines(json.dumps(job).encode() + b"\n" for job in jobs)
            file.seek(0)
            self._child = subprocess.Popen(
                child_command("monitor.notify.send"), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

    def poll(self, wait_s: float) -> list[Outcome] | None:
        """Wait at most `wait_s`; None while it is at work."""
        try:
            out, _ = self._child.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            if time.monotonic() < self._ends:
                return None
            self.kill()
            return self._n * [Outcome(f"no answer within {self._timeout_s:.0f} s")]
        found = [_outcome(line) for line in out.splitlines()[: self._n]]
        status = self._child.returncode
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return found + (self._n - len(found)) * [Outcome(f"the process that sends ended with {how}")]

    def kill(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.communicate()


def run_jobs(*jobs: Job, timeout_s: float = TIMEOUT_S) -> list[Outcome]:
    """Run jobs to their end; an outcome for each."""
    try:
        sending = Sending(*jobs, timeout_s=timeout_s)
    except OSError as error:
        return len(jobs) * [Outcome(f"the process that sends could not be started: {error.strerror}")]
    try:
        while (outcomes := sending.poll(1.0)) is None:
            pass
    except BaseException:
        sending.kill()
        raise
    return outcomes


def _outcome(line: bytes) -> Outcome:
    try:
        error = json.loads(line)["error"]
    except (ValueError, KeyError, TypeError):
        return Outcome("the process that sends gave no valid answer")
    return Outcome(None if error is None else str(error)[:MAX_REASON])
