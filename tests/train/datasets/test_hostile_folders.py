"""Whatever lists, tables and folders are like, a data set is read or refused in one line."""

import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pytest

from monitor.errors import SourceError, StethosError, printable
from tests.train.datasets.trees import make
from tests.waiting import wait_until
from train.datasets import load_split, open_clip, read_dataset, recording_order, save_split, split_dataset
from train.datasets.files import sound_files
from train.datasets.survey import survey

N = 250  # mutants of each kind
PIECES = [
    b"\0",
    b"\xff",
    b"\n",
    b"\r",
    b",",
    b";",
    b'"',
    b"../",
    b"/etc/passwd",
    b"9" * 400,
    b"nan",
    b"\xef\xbb\xbf",
    b"[" * 9_000,
]


def mutant(raw: bytes, rng: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found) + 1)
        found[at : at + rng.choice([0, 1, 8])] = rng.choice([*PIECES, bytes([rng.randrange(256)])])
    return bytes(found)


def test_mutated_lists_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, refused = random.Random(7), 0
    dataset = read_dataset(make(tmp_path / "set", [f"normal/{i}.wav" for i in range(6)]))
    save_split(split_dataset(dataset, held_out=0.3, seed=0), tmp_path / "lists", dataset.root)
    (tmp_path / "lists/cut.txt").write_text("0.8\n")
    lists = {path: path.read_bytes() for path in sorted((tmp_path / "lists").iterdir())}
    for _ in range(N):
        path = rng.choice(list(lists))
        path.write_bytes(mutant(lists[path], rng))
        try:
            load_split(tmp_path / "lists", dataset)
        except StethosError as error:
            refused += 1
            assert len(printable(str(error)).splitlines()) == 1
        path.write_bytes(lists[path])
    assert refused > N / 2


@pytest.mark.parametrize("line", ["[" * 99_999 + '"', '"' * 99, '"a"b"', "normal/0.wav\0", "/etc/passwd", "../set/normal/0.wav"])
def test_lines_that_name_nothing_are_refused(line: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", [f"normal/{i}.wav" for i in range(6)]))
    save_split(split_dataset(dataset, held_out=0.3, seed=0), tmp_path / "lists", dataset.root)
    (tmp_path / "lists/test.txt").write_text(line)
    with pytest.raises(SourceError, match=r"test.txt, line 1: must name a sound file of"):
        load_split(tmp_path / "lists", dataset)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00", "", "NaN"])
def test_times_that_do_not_exist_are_refused(time: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/a.wav"]))
    (tmp_path / "recorded.csv").write_text(f"path,recorded_at\nnormal/a.wav,{time}\n")
    with pytest.raises(SourceError, match=r"recorded.csv, line 2: recorded_at must be"):
        recording_order(dataset, dataset.clips)


def test_a_table_may_list_files_that_are_not_used(tmp_path: Path) -> None:
    """Those of other machines, or without a label."""
    dataset = read_dataset(make(tmp_path, ["fan/normal/a.wav", "pump/normal/a.wav"]), machine="fan")
    rows = "".join(f"{name}/normal/a.wav,2026-11-21T10:00:00\n" for name in ("fan", "pump"))
    (tmp_path / "recorded.csv").write_text(f"path,recorded_at\n{rows}")
    assert recording_order(dataset, dataset.clips).source == "recorded.csv"


def test_mutated_tables_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, refused = random.Random(7), 0
    dataset = read_dataset(make(tmp_path, [f"normal/{i}.wav" for i in range(3)]))
    table = tmp_path / "recorded.csv"
    lines = ["path,recorded_at,load", *(f"normal/{i}.wav,2026-11-21T1{i}:00:00+01:00,{i}" for i in range(3))]
    for _ in range(N):
        table.write_bytes(mutant("\n".join(lines).encode(), rng))
        try:
            recording_order(dataset, dataset.clips)
        except StethosError as error:
            refused += 1
            assert len(printable(str(error)).splitlines()) == 1
    assert refused > N / 2


def test_thousands_of_empty_folders_are_no_obstacle(tmp_path: Path) -> None:
    make(tmp_path, ["normal/a.wav"])
    for i in range(3_000):
        (tmp_path / f"normal/{i // 100}/{i}").mkdir(parents=True)
    began = time.process_time()
    assert [path.name for path in sound_files(tmp_path).files] == ["a.wav"]
    assert time.process_time() - began < 5.0


def test_folders_that_may_not_be_read_are_named() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder), ["normal/a.wav", "normal/secret/b.wav"])
        root.chmod(0o755)
        (root / "normal/secret").chmod(0)
        try:
            if user == 0:
                os.seteuid(65_534)  # root may read every folder
            dataset = read_dataset(root)
        finally:
            os.seteuid(user)
            (root / "normal/secret").chmod(0o700)
    assert [clip.path.name for clip in dataset.clips] == ["a.wav"]
    assert list(dataset.skipped.values()) == ["cannot be read: Permission denied"]


@pytest.mark.parametrize("change", ["gone", "shorter", "text", "a folder"])
def test_clips_that_change_after_they_were_found_are_named(change: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/a.wav", "normal/b.wav"], seconds=2.0))
    path = tmp_path / "normal/a.wav"
    raw = path.read_bytes()
    path.unlink()
    if change == "a folder":
        path.mkdir()
    elif change != "gone":
        path.write_bytes(raw[:5_000] if change == "shorter" else b"no sound")
    one, other = survey(dataset.clips, workers=1)
    assert other.error is None
    assert one.error is not None
    assert one.error.startswith(f"{path}: ")


def test_clips_that_come_and_go_are_named(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/a.wav"], seconds=1.0))
    path, ended = tmp_path / "normal/a.wav", threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            path.rename(tmp_path / "away")
            (tmp_path / "away").rename(path)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    errors: set[str | None] = set()

    def both_seen() -> bool:
        errors.update(one.error for one in survey(dataset.clips, workers=1))
        return len(errors) > 1

    try:
        wait_until(both_seen, 60.0)
    finally:
        ended.set()
        thread.join()
    assert all(error is None or error.startswith(f"{path}: ") for error in errors)


def test_a_clip_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/a.wav"], seconds=60.0))
    blocks = open_clip(dataset.clips[0], sample_rate_hz=16_000).blocks()
    next(blocks)
    os.truncate(tmp_path / "normal/a.wav", 100_000)
    with pytest.raises(SourceError, match="is truncated after"):
        list(blocks)
