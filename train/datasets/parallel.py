"""Process many items on all cores, with one progress bar."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context, parent_process
from typing import TypeVar

from tqdm import tqdm

from monitor.errors import SourceError

Item = TypeVar("Item")
Result = TypeVar("Result")


_max_cores: list[int] = []


def use_cores(n: int) -> None:
    """Limit what this process starts to `n` cores, where many such processes share the computer."""
    _max_cores[:] = [n]


def n_cores() -> int:
    """Cores of this computer, or the limit."""
    return min([os.cpu_count() or 1, *_max_cores])


def in_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    bar: str,
    chunk: int = 1,
    set_up: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Results of `work`, a function of a module, on every item, in the order of the items; the first error ends it.

    `set_up`, a function that can be pickled, is called first in each process.

    The processes are started anew (spawn), not copied: a copy of a process that runs TensorFlow's threads may hang.
    """
    warn_of_threads()
    progress = tqdm(total=len(items), desc=bar, unit="file", disable=None, leave=False)
    with progress:
        if workers == 1 and set_up is not None:
            set_up()
        results = map(work, items) if workers == 1 else _spawned(work, items, workers=workers, chunk=chunk, set_up=set_up)
        for result in results:
            progress.update()
            yield result


@cache
def warn_of_threads() -> None:
    """Warn once on stderr if NumPy was imported before `train`, and so runs its BLAS on several threads."""
    with suppress(ImportError):
        from threadpoolctl import threadpool_info

        if (n := max((one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), default=1)) > 1:
            advice = "import train before NumPy, or set OPENBLAS_NUM_THREADS=1"
            print(f"train: warning: NumPy computes on {n} threads, at many times the CPU time: {advice}", file=sys.stderr)


def _spawned(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, chunk: int, set_up: Callable[[], None] | None
) -> Iterator[Result]:
    n_processes, context = min(workers, max(1, len(items))), get_context("spawn")
    pool = ProcessPoolExecutor(n_processes, mp_context=context, initializer=_prepare, initargs=(set_up,))
    try:
        with _one_blas_thread():
            results = pool.map(work, items, chunksize=chunk)
        yield from results
    except BrokenProcessPool as error:
        raise SourceError("a process that read recordings was killed, perhaps for lack of memory") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Set one thread for processes started meanwhile: they share the cores, and NumPy reads this when it is imported."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _prepare(set_up: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one stops the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if set_up is not None:
        set_up()


def _end_with_parent() -> None:
    """End with the main process; otherwise workers would wait for work forever when it is killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
