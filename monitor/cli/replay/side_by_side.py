"""Replay several files at a time, each in one of several processes. The output is that of one file after the other."""

import io
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from multiprocessing.connection import wait
from pathlib import Path

from tqdm import tqdm

from monitor.cli.replay.replay import Outcome, Replay, replay_file
from monitor.errors import StethosError
from monitor.json_lines import JsonLines

WAITING = 4  # files per process that may be finished before the one whose lines are written next


@dataclass(frozen=True)
class _Done:
    """A replayed file: its JSON lines, its log records, and its counts."""

    lines: str
    records: list[logging.LogRecord]
    outcome: Outcome


def replay_side_by_side(files: Sequence[Path], job: Replay, *, n_processes: int) -> Outcome:
    """Replay each file as a separate stream, `n_processes` at a time. StethosError if one of the processes dies."""
    whole = Outcome()
    try:
        with _processes(job, n_processes) as pool, tqdm(total=len(files), unit="file", disable=None, leave=False) as bar:
            for done in _in_order(pool, files, WAITING * n_processes):
                for record in done.records:
                    logging.getLogger(record.name).handle(record)
                job.lines.write_text(done.lines)
                whole += done.outcome
                bar.update()
    except BrokenProcessPool:
        raise StethosError("a process of the replay was killed, perhaps for lack of memory: try fewer --jobs") from None
    return whole


@contextmanager
def _processes(job: Replay, n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that have the bundle already, because they are forked. What they still do at the end is discarded."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(n_processes, mp_context=context, initializer=_start, initargs=(job,)) as pool:
        try:
            pool.submit(os.getpid).result()  # forks all processes, before a progress bar starts a thread
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise


def _in_order(pool: ProcessPoolExecutor, files: Sequence[Path], n_ahead: int) -> Iterator[_Done]:
    waiting: deque[Future[_Done]] = deque()
    for path in files:
        waiting.append(pool.submit(_replay, path))
        if len(waiting) > n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_job: Replay  # in the processes of the pool
_records: queue.SimpleQueue[logging.LogRecord]


def _start(job: Replay) -> None:
    """Prepare a process of the pool. Its parent ends it at an interrupt; it ends by itself if the parent is killed."""
    global _job, _records
    _job, _records = replace(job, shows_progress=False), queue.SimpleQueue()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.getLogger().handlers = [QueueHandler(_records)]
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _replay(path: Path) -> _Done:
    lines = io.StringIO()
    outcome = replay_file(path, replace(_job, lines=JsonLines(lines)))
    records = [_records.get() for _ in range(_records.qsize())]
    return _Done(lines.getvalue(), records, outcome)
