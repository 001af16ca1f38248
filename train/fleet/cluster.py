"""Connect to a Dask cluster, or start one on this computer, and check that its workers run the same software."""

import logging
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.errors import StethosError, UsageError, printable
from train.fleet.jobs import software
from train.fleet.tasks import WorkerError, difference, reaches

_ALLOWED_FAILURES = 3  # deaths of workers before a task is given up


class SchedulerError(StethosError):
    """The scheduler cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where tasks run: the address of a scheduler, with files for TLS, or a number of processes here."""

    scheduler: str | None = None
    n_workers: int = 1
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        is_tls = self.scheduler is not None and self.scheduler.startswith("tls://")
        if self.scheduler is not None and not self.scheduler.startswith(("tcp://", "tls://")):
            raise UsageError(f"--scheduler must be tcp://HOST:PORT or tls://HOST:PORT, got {self.scheduler!r}")
        if self.scheduler is not None:
            host, _, port = self.scheduler[len("tcp://") :].rpartition(":")
            try:
                socket.getaddrinfo(host.strip("[]"), int(port))
            except (OSError, ValueError, OverflowError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise UsageError(f"--scheduler: {self.scheduler} cannot be resolved: {why}") from None
        for option in ("tls_ca", "tls_cert", "tls_key"):
            path, name = getattr(self, option), f"--{option.replace('_', '-')}"
            if is_tls and path is None:
                raise UsageError(f"{name} is required for a scheduler at tls://")
            if path is not None and not is_tls:
                raise UsageError(f"{name} requires --scheduler tls://HOST:PORT")
            if path is not None and not path.is_file():
                raise UsageError(f"{name} must be a file, got {path}")

    @contextmanager
    def client(self, *, within_s: float) -> Iterator[Any]:
        """A connected Dask client. SchedulerError where the scheduler does not answer within some time."""
        import dask

        lib = distributed()
        if self.scheduler is None:
            settings = {
                "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
                "distributed.worker.memory.terminate": False,  # each step has a limit of its own
                "distributed.admin.log-format": "%(message)s",
            }
            with (
                dask.config.set(settings),
                lib.LocalCluster(
                    n_workers=self.n_workers,
                    threads_per_worker=1,
                    memory_limit=None,
                    dashboard_address="127.0.0.1:0",  # there is no dashboard, but always a server
                    scheduler_kwargs={"dashboard": False},
                    host="127.0.0.1",
                    security=True,  # TLS, so that other users cannot connect
                    silence_logs="CRITICAL",
                ) as cluster,
                lib.Client(cluster) as client,
            ):
                yield client
            return
        try:
            client = lib.Client(self.scheduler, security=self._security(), timeout=within_s)
        except (OSError, TimeoutError) as error:
            text = " ".join(str(error).split())[:200] or "no answer"
            raise SchedulerError(printable(f"{self.scheduler} cannot be reached: {text}")) from error
        try:
            yield client
        finally:
            with suppress(Exception):  # the scheduler may be gone
                client.close(timeout=5)

    def _security(self) -> Any:
        if self.tls_ca is None:
            return None
        files = {"tls_ca_file": self.tls_ca, "tls_client_cert": self.tls_cert, "tls_client_key": self.tls_key}
        return distributed().Security(require_encryption=True, **{name: str(path) for name, path in files.items()})


def distributed() -> Any:
    """Dask's library, which has no type annotations; imported when it is used.

    It logs the tracebacks of lost connections, which the command reports in one line.
    """
    import distributed as lib

    for name in [*logging.root.manager.loggerDict, "asyncio"]:
        if name.partition(".")[0] in ("asyncio", "distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", category=lib.versions.VersionMismatchWarning)  # `check_workers` reports what matters
    return lib


def check_workers(client: Any, out: str, storage: Mapping[str, Any]) -> None:
    """WorkerError in one line where a worker runs other versions than this computer, or does not reach the output.

    The output must exist.
    """
    for worker, found in client.run(software, on_error="return").items():
        if isinstance(found, ModuleNotFoundError):
            raise WorkerError(f"the worker {worker} cannot import {found.name}: pip install 'stethos[train,fleet]' there")
        if isinstance(found, Mapping) and (differs := difference(found, software())) is not None:
            raise WorkerError(f"the worker {worker} {differs}")
    for worker, is_there in client.run(reaches, out, dict(storage), on_error="return").items():
        if is_there is False or isinstance(is_there, StethosError):  # anything else: it has died, and is replaced
            why = f": {is_there}" if is_there else ""
            raise WorkerError(f"the worker {worker} does not reach {out}{why}: it must be a shared folder or an object store")


def wait_for_worker(client: Any, *, within_s: float) -> bool:
    """Whether a worker is connected within this time."""
    deadline = time.monotonic() + within_s
    while not client.scheduler_info(n_workers=1)["workers"]:
        if time.monotonic() >= deadline:
            return False
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=max(0.1, deadline - time.monotonic()))
    return True
