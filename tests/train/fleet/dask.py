"""A Dask scheduler and its workers as processes of their own, which are killed, and started again as systemd would."""

import os
import random
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.broker import free_port
from tests.conftest import ROOT
from tests.train.fleet.plant import PYTHON, environment

ALLOWED_FAILURES = "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"


class Cluster:
    """A scheduler on a loopback port with some workers; a context that ends them all."""

    def __init__(
        self,
        folder: Path,
        variables: dict[str, str],
        *,
        n_workers: int = 2,
        protocol: str = "tcp",
        options: Sequence[str] = (),
        code: Path = ROOT,
    ) -> None:
        self.address = f"{protocol}://127.0.0.1:{free_port()}"
        self.n_killed = 0
        self._folder, self._options, self._code = folder, options, code
        self._environment = environment(folder, **{ALLOWED_FAILURES: "50", **variables})
        self._scheduler = self._start_scheduler()
        self._workers = [self._start_worker() for _ in range(n_workers)]
        self._ends = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)

    def __enter__(self) -> "Cluster":
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._supervisor.join()
        for process in (*self._workers, self._scheduler):
            process.kill()
            process.wait()

    def restart_scheduler(self) -> None:
        """Kill it without warning; it forgets everything."""
        self._scheduler.kill()
        self._scheduler.wait()
        self._scheduler = self._start_scheduler()

    def stop_scheduler(self) -> None:
        self._scheduler.kill()
        self._scheduler.wait()

    def kill_a_worker(self, chance: random.Random) -> None:
        worker = chance.choice(self._workers)
        os.kill(worker.pid, signal.SIGKILL)
        self.n_killed += 1

    def _supervise(self) -> None:
        while not self._ends.wait(0.2):
            self._workers = [worker if worker.poll() is None else self._start_worker() for worker in self._workers]

    def _start_scheduler(self) -> "subprocess.Popen[bytes]":
        return self._start("distributed.cli.dask_scheduler", "--host", self.address, "--no-dashboard")

    def _start_worker(self) -> "subprocess.Popen[bytes]":
        space = self._folder / "space"
        limits = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--local-directory", str(space)]
        return self._start("distributed.cli.dask_worker", self.address, *limits)

    def _start(self, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{module.rpartition('.')[2]}.log").open("ab") as log:
            command = [*PYTHON, module, *arguments, *self._options]
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, cwd=self._code)


class Killer:
    """Kills a worker at random every few seconds; a context."""

    def __init__(self, cluster: Cluster, *, every_s: float, at_most: int) -> None:
        self._cluster, self._every_s, self._at_most = cluster, every_s, at_most
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        chance = random.Random(0)
        while self._cluster.n_killed < self._at_most and not self._ends.wait(self._every_s * chance.uniform(0.5, 1.5)):
            self._cluster.kill_a_worker(chance)
