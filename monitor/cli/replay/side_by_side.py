"""Replay several files at a time, each in one of several processes. The output is that of one file after the other.

Lines and log records go through files, not through the processes' pipe: a process that is killed while it writes to a pipe would
leave its reader waiting.
"""

import logging
import multiprocessing
import os
import pickle
import queue
import shutil
import signal
import tempfile
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

from monitor.cli.replay.files import Outcome, Replay, replay_file
from monitor.errors import SinkError, StethosError
from monitor.json_lines import JsonLines

WAITING = 4  # files per process that may be finished before the one whose lines are written next
_CHUNK = 1 << 20  # characters copied at a time


@dataclass(frozen=True)
class _Done:
    """A replayed file: its counts, and the files with its JSON lines and its log records."""

    outcome: Outcome
    lines: Path
    records: Path


def replay_side_by_side(files: Sequence[Path], job: Replay, *, n_processes: int) -> Outcome:
    """Replay each file as a separate stream, at most `n_processes` at a time. StethosError if one of the processes dies."""
    whole = Outcome()
    n_processes = min(n_processes, len(files))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="stethos-replay-") as folder,
            _processes(job, Path(folder), n_processes) as pool,
            tqdm(total=len(files), unit="file", disable=None, leave=False) as bar,
        ):
            for done in _in_order(pool, files, WAITING * n_processes):
                _write(done, job.lines)
                whole += done.outcome
                bar.update()
    except BrokenProcessPool:
        raise StethosError("a process of the replay was killed, perhaps for lack of memory: use fewer --jobs") from None
    return whole


def _write(done: _Done, lines: JsonLines) -> None:
    for record in pickle.loads(done.records.read_bytes()):
        logging.getLogger(record.name).handle(record)
    with done.lines.open(encoding="utf-8", errors="surrogateescape") as file:
        while some := file.readlines(_CHUNK):
            lines.write_text("".join(some))
    done.lines.unlink()
    done.records.unlink()


@contextmanager
def _processes(job: Replay, folder: Path, n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that have the bundle, because they are forked. After an exception, unfinished work is discarded."""
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(n_processes, mp_context=context, initializer=_start, initargs=(job, folder)) as pool:
        try:
            _fork_all(pool)
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            raise


def _fork_all(pool: ProcessPoolExecutor) -> None:
    """Start all processes, before a progress bar starts a thread."""
    try:
        pool.submit(os.getpid).result()
    except OSError as error:
        raise StethosError(f"cannot start the processes of the replay ({error.strerror}): use fewer --jobs") from error


def _in_order(pool: ProcessPoolExecutor, files: Sequence[Path], n_ahead: int) -> Iterator[_Done]:
    waiting: deque[Future[_Done]] = deque()
    for number, path in enumerate(files):
        waiting.append(pool.submit(_replay, number, path))
        if len(waiting) > n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_job: Replay  # in the processes of the pool
_folder: Path
_records: "queue.SimpleQueue[logging.LogRecord]"


def _start(job: Replay, folder: Path) -> None:
    """Prepare a process of the pool. Its parent ends it at an interrupt; it ends by itself if the parent is killed."""
    global _job, _folder, _records
    _job, _folder, _records = replace(job, shows_progress=False), folder, queue.SimpleQueue()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.getLogger().handlers = [QueueHandler(_records)]
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    shutil.rmtree(_folder, ignore_errors=True)
    os._exit(1)


def _replay(number: int, path: Path) -> _Done:
    lines, records = _folder / f"{number}.jsonl", _folder / f"{number}.log"
    try:
        with lines.open("w", encoding="utf-8", errors="surrogateescape") as file:
            outcome = replay_file(path, replace(_job, lines=JsonLines(file)))
        records.write_bytes(pickle.dumps([_records.get() for _ in range(_records.qsize())]))
    except OSError as error:
        raise SinkError(f"{_folder}: {error.strerror}: set TMPDIR to a folder with more space") from error
    return _Done(outcome, lines, records)
