"""Whatever comes from outside is accepted, or refused in one line."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fuzz

N = 50_000 if os.environ.get("LONG_TESTS") else 2_000


def test_no_mutant_crashes_hangs_or_gives_a_traceback(root: Path, record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "-n", str(N)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    record_property("figures", f"\n{done.stdout.rstrip()}")
    rows = [[int(number) for number in re.findall(r" (\d+)(?= )", line)[:4]] for line in done.stdout.splitlines()[1:]]
    assert sum(tries for tries, *_ in rows) == N
    assert all(refused and accepted and not failures for _, refused, accepted, failures in rows)


def _hang() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        (_hang, "SIGXCPU|SIGALRM"),
        (lambda: bytearray(1 << 30), "MemoryError"),
        (lambda: os.environ["NO_SUCH"], "KeyError"),
        (lambda: sys.exit(0), "SystemExit"),
        (lambda: os._exit(0), "exit status 0"),
        (lambda: print("Traceback", file=os.fdopen(2, "w")), "printed: Traceback"),
        (lambda: "two\nlines", "not one short line"),
        (lambda: "", "not one short line"),
    ],
)
def test_every_fault_of_a_reader_is_counted_once(
    fault: Callable[[], str | None], failure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuzz, "LIMIT_S", 1)
    mutants = [("good", 0), ("refused", 1), ("bad", 2), ("good", 3)]

    def read(mutant: int, folder: Path) -> str | None:
        return (None, "refused", None, None)[mutant] if mutant != 2 else fault()

    done = fuzz.run(fuzz.Reader(lambda n, seed: iter(mutants), read), 4, 0, tmp_path)
    assert (done.tried, done.refused, done.accepted) == (4, 1, 2)
    ((name, text),) = done.failures.items()
    assert name == "3-bad"
    assert re.search(failure, text)
    assert (tmp_path / name).read_text() == "2"
