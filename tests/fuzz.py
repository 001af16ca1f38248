"""Read mutants of everything that comes from outside, in child processes under limits, and count the failures.

python -m tests.fuzz [-n 2000] [--seed 0] [--keep FOLDER] [READER…]

A mutant must be accepted, or refused in one printable line. A crash, a hang, another exception and a traceback in the log are
failures.
"""

import argparse
import faulthandler
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tests.audio import mutants as audio
from tests.bundle import mutants as bundle
from tests.config import mutants as config
from tests.daemon import mutants as daemon
from tests.mqtt import mutants as mqtt

LIMIT_S, LIMIT_BYTES = 10, 400 << 20  # of CPU time for a mutant, and of memory beyond the process's own
BATCH = 50  # mutants for a process
MAX_REFUSAL = 1_000


@dataclass(frozen=True)
class Reader:
    """Makes `mutants(n, seed)`, named, and reads one in an empty folder: the refusal, or None if it is accepted."""

    mutants: Callable[[int, int], Iterator[tuple[str, Any]]]
    read: Callable[[Any, Path], str | None]
    prints: str = ""  # every line on stderr must match


READERS = {
    "recording": Reader(audio.mutants, audio.read, prints="the header states|could be decoded|its end seems to be missing"),
    "manifest": Reader(partial(bundle.demo_mutants, kinds=("manifest-values", "manifest-bytes")), bundle.read),
    "npz": Reader(partial(bundle.demo_mutants, kinds=("statistics-bytes", "statistics-archive")), bundle.read),
    "tflite": Reader(partial(bundle.demo_mutants, kinds=("model-bytes", "model-tables")), bundle.read),
    "yaml": Reader(config.mutants, config.read),
    "state": Reader(daemon.state_files, daemon.read_state),
    "command": Reader(daemon.commands, daemon.read_command),
    "control": Reader(daemon.requests, daemon.read_request),
    "packet": Reader(mqtt.mutants, mqtt.read),
}


@dataclass
class Outcomes:
    """Counts of one reader, and its failures by the mutant's name."""

    tried: int = 0
    refused: int = 0
    accepted: int = 0
    slowest_s: float = 0.0  # of CPU time
    failures: dict[str, str] = field(default_factory=dict)


def run(reader: Reader, n: int, seed: int, keep: Path | None) -> Outcomes:
    """Read `n` mutants; `keep` receives those that fail."""
    outcomes = Outcomes()
    tries = reader.mutants(n, seed)
    while batch := list(islice(tries, BATCH)):
        while batch:
            with tempfile.TemporaryDirectory() as folder:
                results, ended = _in_child(reader, batch, Path(folder))
            if len(results) < len(batch):  # the one after the last result ended the process
                results.append({"failure": ended, "refusal": None, "cpu_s": 0.0})
            for (name, mutant), result in zip(batch, results, strict=False):
                outcomes.tried += 1
                outcomes.slowest_s = max(outcomes.slowest_s, result["cpu_s"])
                if result["failure"]:
                    outcomes.failures[f"{outcomes.tried}-{name}"] = result["failure"]
                    if keep is not None:
                        (keep / f"{outcomes.tried}-{name}").write_text(repr(mutant))
                elif result["refusal"] is None:
                    outcomes.accepted += 1
                else:
                    outcomes.refused += 1
            batch = batch[len(results) :]
    return outcomes


def _in_child(reader: Reader, batch: list[tuple[str, Any]], folder: Path) -> tuple[list[dict[str, Any]], str]:
    """The results of the mutants that a new process has read, and the reason for its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _read_batch(reader, batch, folder, writing)
            os._exit(0)
        finally:
            os._exit(70)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        results = [json.loads(line) for line in pipe]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return results, signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _read_batch(reader: Reader, batch: list[tuple[str, Any]], folder: Path, writing: int) -> None:
    stderr = os.open(folder / "stderr", os.O_RDWR | os.O_CREAT)
    os.dup2(stderr, 2)
    faulthandler.disable()
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    for index, (_, mutant) in enumerate(batch):
        place = folder / str(index)
        place.mkdir()
        started = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(started) + 1 + LIMIT_S, hard))
        signal.alarm(12 * LIMIT_S)
        refusal, failure = None, None
        try:
            refusal = reader.read(mutant, place)
        except BaseException:  # noqa: BLE001 - whatever it is, it is counted
            failure = traceback.format_exc()
        sys.stderr.flush()
        printed = os.pread(stderr, 100_000, 0).decode("utf-8", "replace")
        os.ftruncate(stderr, 0)
        os.lseek(stderr, 0, os.SEEK_SET)
        if refusal is not None and not (refusal.isprintable() and 0 < len(refusal) <= MAX_REFUSAL):
            failure = failure or f"not one short line: {refusal[:MAX_REFUSAL]!r}"
        if "Traceback" in printed or not all(re.search(reader.prints, line) for line in printed.splitlines()):
            failure = failure or f"printed: {printed[-4_000:]}"
        result = {"failure": failure, "refusal": refusal, "cpu_s": time.process_time() - started}
        os.write(writing, json.dumps(result).encode() + b"\n")


def main() -> int:
    """Print a table of all readers and the failures; exit status 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("-n", type=int, default=2_000, help="mutants in total")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the mutants that fail to this folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.readers) - set(READERS):
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    names = arguments.readers or list(READERS)
    failures: dict[str, str] = {}
    print("reader       tries  refused  accepted  failures  slowest")
    for number, name in enumerate(names):
        n = arguments.n // len(names) + (number < arguments.n % len(names))
        done = run(READERS[name], n, arguments.seed, arguments.keep)
        counts = f"{done.tried:7d}  {done.refused:7d}  {done.accepted:8d}  {len(done.failures):8d}"
        print(f"{name:10s} {counts}  {done.slowest_s:5.2f} s", flush=True)
        failures |= {f"{name} {mutant}": text for mutant, text in done.failures.items()}
    for mutant, text in failures.items():
        print(f"\n{mutant}: {text.strip()}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
