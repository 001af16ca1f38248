"""`monitor --replay --jobs`: several files at a time, with the output of one after the other."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.replay.command import ROOT, monitor
from tests.tmpfs import tmpfs
from tests.waiting import wait_until

N_PROCESSES = 2


@pytest.fixture
def files(tmp_path: Path, demo_fault: Path, demo_normal: Path) -> list[Path]:
    """Long and short ones by turns, one that is no sound, and one that is missing."""
    paths = [tmp_path / f"{i:02d}.flac" for i in range(12)]
    for i, path in enumerate(paths):
        path.symlink_to(demo_fault if i % 3 == 0 else demo_normal)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    return [*paths[:5], tmp_path / "damaged.wav", *paths[5:], tmp_path / "missing.wav"]


def test_lines_and_messages_are_those_of_one_file_after_the_other(files: list[Path], demo_bundle: Path) -> None:
    words: list[str | Path] = ["--replay", *files, "--model", demo_bundle, "--scores", "--fail-on-anomaly"]
    alone, side_by_side = monitor(*words), monitor(*words, "--jobs", "3")
    assert alone.status == side_by_side.status == 1
    assert side_by_side.stdout == alone.stdout
    assert side_by_side.stderr == alone.stderr
    assert len(alone.files) == 14
    assert len(alone.errors) == 2
    good = monitor("--replay", *files[:3], "--model", demo_bundle, "--fail-on-anomaly", "--jobs", "2")
    assert good.status == 3
    monitor("--replay", files[0], "--model", demo_bundle, "--jobs", "200")  # no more processes than files


def test_names_that_are_not_text_are_written_as_without_jobs(tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    name = tmp_path / os.fsdecode(b"l\xfcfter.flac")
    name.symlink_to(demo_normal)
    words: list[str | Path] = ["--replay", name, name, "--model", demo_bundle]
    alone, side_by_side = monitor(*words), monitor(*words, "--jobs", "2")
    assert (alone.status, alone.stdout, alone.stderr) == (side_by_side.status, side_by_side.stdout, side_by_side.stderr)


def test_a_full_temporary_folder_is_named(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    with tmpfs(tmp_path, n_bytes=8192) as disk:
        words: list[str | Path] = ["--replay", demo_fault, demo_fault, "--model", demo_bundle, "--scores", "--jobs", "2"]
        done = monitor(*words, environment={"TMPDIR": str(disk)})
        assert done.status == 1
        assert f"monitor: error: {disk}/stethos-replay-" in done.stderr
        assert done.stderr.endswith(": No space left on device: set TMPDIR to a folder with more space\n")
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("words", [("--publish",), ("--clips", "clips"), ("--speed", "1")])
def test_what_takes_one_file_after_the_other_is_refused(words: tuple[str, ...], demo_bundle: Path, demo_normal: Path) -> None:
    done = monitor("--replay", demo_normal, "--model", demo_bundle, "--jobs", "2", *words)
    assert done.status == 2
    assert "--jobs cannot be used with --publish, --clips or --speed 1" in done.stderr
    assert monitor("--jobs", "2").stderr.endswith("--jobs needs --replay FILE\n")


@pytest.fixture
def running(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> "Iterator[subprocess.Popen[str]]":
    """A replay that takes a while, and has written its first line."""
    paths = [tmp_path / f"{i:03d}.flac" for i in range(300)]
    for path in paths:
        path.symlink_to(demo_fault)
    command = [sys.executable, "-m", "monitor.cli.main", "--replay", *map(str, paths), "--model", str(demo_bundle)]
    command += ["--jobs", str(N_PROCESSES), "--scores"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "segment"
        yield process
        process.kill()


def children(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = psutil.Process(process.pid).children()
    assert len(found) == N_PROCESSES
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(running: "subprocess.Popen[str]", end: signal.Signals) -> None:
    processes = children(running)
    for process in processes if end == signal.SIGINT else ():
        os.kill(process.pid, end)  # a terminal sends it to all
    running.send_signal(end)
    _, stderr = running.communicate(timeout=30)
    wait_until(lambda: gone(processes), within_s=10, what="the end of the processes")
    assert "Traceback" not in stderr
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}[end]


def test_a_process_that_is_killed_ends_the_command_with_a_hint(running: "subprocess.Popen[str]") -> None:
    processes = children(running)
    processes[0].kill()
    _, stderr = running.communicate(timeout=30)
    assert running.returncode == 1
    assert stderr.endswith("monitor: error: a process of the replay was killed, perhaps for lack of memory: use fewer --jobs\n")
    wait_until(lambda: gone(processes), within_s=10, what="the end of the processes")


def test_a_reader_that_leaves_ends_the_command(running: "subprocess.Popen[str]") -> None:
    processes = children(running)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert "Traceback" not in running.stderr.read()
    assert running.wait(30) == 0  # as of any command whose reader has enough
    wait_until(lambda: gone(processes), within_s=10, what="the end of the processes")
