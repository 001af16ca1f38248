"""No damage to a recording crashes or hangs the reader: it is read, or refused in one line."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audio.mutants import mutants, recordings

N, N_BATCH = 2000, 250
ROOT = Path(__file__).parents[2]


def results(folder: Path) -> tuple[list[dict[str, object]], str]:
    """The result of each file, and what the process printed on stderr. Fails if it was killed."""
    command = [sys.executable, "-m", "tests.audio.read_all", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
    read = [json.loads(line) for line in done.stdout.splitlines()]
    files = sorted(path.name for path in folder.iterdir())
    assert done.returncode == 0, f"{files[len(read)]}: status {done.returncode}: {done.stderr[-2000:]}"
    return read, done.stderr


def test_whole_recordings_of_every_format_are_read(tmp_path: Path) -> None:
    for number, (suffix, content) in enumerate(recordings()):
        (tmp_path / f"{number:02d}.{suffix}").write_bytes(content)
    read, printed = results(tmp_path)
    assert printed == ""
    assert [one["error"] for one in read] == [None] * len(read)
    assert all(23_900 <= int(str(one["n_samples"])) <= 26_500 for one in read)  # lossy formats are padded


@pytest.mark.parametrize("seed", range(N // N_BATCH))
def test_no_damage_crashes_the_reader(seed: int, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    for name, content in mutants(N_BATCH, seed=seed):
        (tmp_path / name).write_bytes(content)
    read, printed = results(tmp_path)
    assert len(read) == N_BATCH
    unexpected = [line for line in printed.splitlines() if not re.search("the header states|could be decoded", line)]
    assert unexpected == []
    for one in read:
        error = one["error"]
        assert error is None or (str(error).startswith(str(tmp_path)) and "\n" not in str(error))
        assert "does not exist" not in str(error)
    kinds = Counter("refused" if one["error"] and not one["n_samples"] else "cut" if one["error"] else "read" for one in read)
    record_property("figures", f"{N_BATCH} damaged recordings, 0 failures: {dict(kinds)}")
