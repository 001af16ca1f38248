"""Folders on disk and elsewhere: a folder is complete or not there, and no name leads out of it."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from monitor.errors import SinkError, SourceError
from train.fleet.places import Store, copy_here, remote_files
from train.fleet.summaries import Latest, read_summary

SUMMARY = {"machine": "fan", "key": "0123456789abcdef", "bundle": "b"}


@pytest.fixture
def remote() -> Iterator[str]:
    """A store without folders and renaming, as object stores are."""
    MemoryFileSystem.store.clear()
    yield "memory://plant"
    MemoryFileSystem.store.clear()


@pytest.fixture(params=["disk", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path, remote: str) -> Store:
    return Store(str(tmp_path / "out") if request.param == "disk" else f"{remote}/out", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    (path / "report").mkdir(parents=True)
    (path / "model.tflite").write_bytes(b"model")
    (path / "report" / "a.txt").write_bytes(b"a")
    return path


def test_a_published_folder_is_whole_and_is_kept(store: Store, folder: Path) -> None:
    assert read_summary(store, "bundles/fan/1", Latest) is None
    store.publish(folder, "bundles/fan/1", SUMMARY)
    assert read_summary(store, "bundles/fan/1", Latest) == Latest.model_validate(SUMMARY)
    assert (store.read("bundles/fan/1/model.tflite"), store.read("bundles/fan/1/report/a.txt")) == (b"model", b"a")
    (folder / "model.tflite").write_bytes(b"other")
    store.publish(folder, "bundles/fan/1", SUMMARY)  # another worker was as fast
    assert store.read("bundles/fan/1/model.tflite") == b"model"


def test_a_folder_without_its_last_file_is_not_there_and_is_replaced(store: Store, folder: Path) -> None:
    store.write("bundles/fan/1/model.tflite", b"half")
    assert read_summary(store, "bundles/fan/1", Latest) is None
    store.publish(folder, "bundles/fan/1", SUMMARY)
    assert store.read("bundles/fan/1/model.tflite") == b"model"


def test_what_a_killed_process_left_is_removed_after_an_hour(folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"), {})
    for name, age_s in ((".part-old", 7200), (".part-new", 60)):
        path = tmp_path / "out" / "bundles" / "fan" / name
        path.mkdir(parents=True)
        os.utime(path, (time.time() - age_s,) * 2)
    store.publish(folder, "bundles/fan/1", SUMMARY)
    assert sorted(path.name for path in (tmp_path / "out/bundles/fan").iterdir()) == [".part-new", "1"]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"file/out/failures\.jsonl: cannot be written: Not a directory"):
        Store(str(tmp_path / "file" / "out"), {}).write("failures.jsonl", b"")


def test_copies_have_no_times_of_their_own(remote: str, tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    for name in ("normal/a.wav", "normal/b.wav"):
        fs.pipe_file(f"/plant/fan/{name}", name.encode())
    (tmp_path / "copy").mkdir()
    copy_here(f"{remote}/fan", {}, tmp_path / "copy")
    found = sorted((tmp_path / "copy").rglob("*.wav"))
    assert [path.read_bytes() for path in found] == [b"normal/a.wav", b"normal/b.wav"]
    assert {path.stat().st_mtime for path in found} == {0.0}


def test_a_name_that_leads_out_of_the_folder_is_refused(remote: str, tmp_path: Path) -> None:
    MemoryFileSystem().pipe_file("/plant/fan/a.wav", b"")
    MemoryFileSystem.store["/plant/fan/../../evil.wav"] = MemoryFileSystem.store["/plant/fan/a.wav"]
    with pytest.raises(SourceError, match=r"has a file whose name leads out of the folder: '\.\./\.\./evil\.wav'"):
        remote_files(f"{remote}/fan", {})


def test_a_place_without_hashes_or_times_is_refused(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MemoryFileSystem().pipe_file("/plant/fan/a.wav", b"")
    find = MemoryFileSystem.find

    def as_a_web_server_does(self: MemoryFileSystem, path: str, **options: Any) -> dict[str, dict[str, Any]]:
        found = find(self, path, **options)
        return {name: {"name": name, "size": None, "type": "file"} for name in found}

    monkeypatch.setattr(MemoryFileSystem, "find", as_a_web_server_does)
    with pytest.raises(SourceError, match="neither hashes nor times of its files, so changes would go unnoticed"):
        remote_files(f"{remote}/fan", {})


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path), {})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.write("failures.jsonl", str(n).encode()), range(200)))
    assert [path.name for path in tmp_path.iterdir()] == ["failures.jsonl"]


def test_an_empty_place_is_an_error(remote: str) -> None:
    with pytest.raises(SourceError, match="contains no files"):
        remote_files(f"{remote}/nothing", {})
