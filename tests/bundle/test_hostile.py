"""A bundle from elsewhere may be anything: it is refused in one line, at once, and with little memory."""

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle import load_bundle
from monitor.bundle.budget import WORKSTATION
from monitor.bundle.load import sha256
from monitor.bundle.trial import load_after_trial
from monitor.errors import BundleError
from tests.conftest import need

Change = Callable[[Path], object]
REFUSED_WITHIN_S = 30.0 if "EMULATED" in os.environ else 1.0  # an emulator takes at least ten times as long


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "demo-fan"
    shutil.copytree(demo_bundle, copy)
    return copy


def refusal(bundle: Path) -> str:
    """The message, which comes within a second of CPU time, however busy the computer is."""
    started = time.process_time()
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert time.process_time() - started < REFUSED_WITHIN_S
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 600
    assert text.startswith(str(bundle))
    return text


def edit(bundle: Path, values: Mapping[str, Any]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for key, value in values.items():
        *parts, last = key.split(".")
        part = manifest
        for name in parts:
            part = part[name]
        part[last] = value
    path.write_text(json.dumps(manifest))


def replace_statistics(bundle: Path, content: bytes) -> None:
    (bundle / "statistics.npz").write_bytes(content)
    edit(bundle, {"detector.statistics.sha256": sha256(content)})


RANGE = "must be 0 or of a magnitude from 1e-30 to 1e+30"
LONG = {"tick_frames": 1024, "segment_ticks": 1024, "rule.raise_k": 1025, "rule.raise_n": 2000}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"front_end.n_fft": 1 << 20, "front_end.hop_length": 1 << 20}, "bundle is too large: it would need 6,"),
        (LONG, "bundle is too large: it would need "),
        ({"front_end.n_fft": 1 << 20, **LONG}, "bundle is too large: it would need "),
        ({"front_end.n_fft": 65_536, "front_end.n_mels": 32_768}, "bundle is too large: it would need "),
        ({"front_end.hop_length": 1}, "bundle is too slow: scoring 0.002 s of sound would take 0.00"),
        (
            {"front_end.n_fft": 10**400},
            f"manifest.json: front_end.n_fft: {RANGE}, got inf",
        ),
        ({"front_end.n_fft": -(10**400)}, f"front_end.n_fft: {RANGE}, got -inf"),
        ({"front_end.floor": 5e-324}, f"front_end.floor: {RANGE}, got 5e-324"),
        (
            {"calibration.threshold": float("nan")},
            f"calibration.threshold: {RANGE}, got nan",
        ),
        ({"calibration.hours": 1e20}, "calibration.hours: Input should be less than or equal to 1000000"),
        ({"provenance.recipe": "\x1b[2J"}, "provenance.recipe: must be printable text, got '\\x1b[2J'"),
        ({"provenance.recipe": "\ud800"}, "provenance.recipe: must be printable text, got '\\ud800'"),
        ({"name": None}, "name: Input should be a valid string, got None"),
        ({"two\nlines": 1}, "two\\nlines: Extra inputs are not permitted, got 1"),
        ({"x" * 100_000: 1}, "x…: Extra inputs are not permitted, got 1"),
        ({"model.input_frames": list(range(100_000))}, "model.input_frames must be in 0..4, got 99999"),
    ],
)
def test_values_that_no_device_can_bear_are_refused(bundle: Path, values: dict[str, Any], message: str) -> None:
    edit(bundle, values)
    assert message in refusal(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b"\xff\xfe{}", "is not JSON: "),
        (b" " * 2_000_000, "cannot be read: larger than 1 MB"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "schema: must be 0 or of a magnitude"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(bundle: Path, content: bytes, message: str) -> None:
    (bundle / "manifest.json").write_bytes(content)
    assert f"{bundle / 'manifest.json'}: {message}" in refusal(bundle)


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("name", ["manifest.json", "model.tflite", "statistics.npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("/etc/passwd"), "it is a link out of its folder"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "not a regular file"),
        (make_sparse, "larger than "),
    ],
)
def test_what_is_no_regular_file_of_the_folder_is_refused(bundle: Path, name: str, change: Change, message: str) -> None:
    (bundle / name).unlink()
    change(bundle / name)
    text = refusal(bundle)
    assert name in text
    assert message in text


def test_links_within_the_folder_are_followed(bundle: Path) -> None:
    (bundle / "model.tflite").rename(bundle / "other")
    (bundle / "model.tflite").symlink_to("other")
    assert load_bundle(bundle).manifest.name == "demo-fan"


def archive(arrays: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in arrays.items():
            file.writestr(name, content)
    return buffer.getvalue()


def members(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle / "statistics.npz") as file:
        return {name: file.read(name) for name in file.namelist()}


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    return buffer.getvalue()


FIRST = "expected_mean_db"
HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled(), f"statistics.{FIRST} must be an array of float32, in the order of C, got b\"{{'descr': '|O'"),
        (b"", "must be an array of float32"),
        (bytes(500_000), f"statistics.{FIRST} must be (64,) finite numbers, got 500000 bytes, compression 0"),
        (b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER, "must be an array of float32"),
        (
            b"\x93NUMPY\x01\x00\xff\xff" + HEADER + b"\n" + bytes(256),
            "must be (64,) finite numbers, got (64,)",
        ),
        (b"\x93NUMPY\x01\x00\x3b\x00" + HEADER.replace(b"64", b"9" * 19) + b"\n", "finite numbers, got (9999999999999999999,)"),
        (b"\x93NUMPY\x01\x00\x3b\x00" + b"(" * 500 + b"\n", "must be an array of float32"),
        (b"\x93NUMPY\x01\x00\x3b\x00" + HEADER + b"\n" + np.full(64, 1e30, "<f4").tobytes(), "must be at most 1e+06"),
        (b"\x93NUMPY\x01\x00\x3b\x00" + HEADER + b"\n" + np.full(64, np.inf, "<f4").tobytes(), "finite numbers, got (64,)"),
    ],
)
def test_a_crafted_array_is_refused(bundle: Path, content: bytes, message: str) -> None:
    replace_statistics(bundle, archive({**members(bundle), f"{FIRST}.npy": content}))
    assert message in refusal(bundle)


def test_an_archive_that_would_grow_is_refused(bundle: Path) -> None:
    arrays = members(bundle)
    replace_statistics(bundle, archive({**arrays, f"{FIRST}.npy": bytes(100 << 20)}, zipfile.ZIP_DEFLATED))
    assert f"statistics.{FIRST} must be (64,) finite numbers, got 104857600 bytes, compression 8" in refusal(bundle)
    replace_statistics(bundle, archive(arrays, zipfile.ZIP_LZMA))
    assert "bytes, compression 14" in refusal(bundle)
    replace_statistics(bundle, archive(arrays, zipfile.ZIP_DEFLATED))
    assert load_bundle(bundle).manifest.name == "demo-fan"


def test_an_archive_of_too_many_arrays_is_refused(bundle: Path) -> None:
    replace_statistics(bundle, archive({**members(bundle), **{f"{number}.npy": b"" for number in range(9000)}}))
    assert "got 9007 arrays" in refusal(bundle)
    replace_statistics(bundle, members(bundle)[f"{FIRST}.npy"] + bytes(2 << 20))
    assert "statistics.npz cannot be read: larger than 1" in refusal(bundle)


def test_an_encrypted_archive_is_refused(bundle: Path) -> None:
    content = bytearray(archive(members(bundle)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 1)
    replace_statistics(bundle, bytes(content))
    assert "statistics cannot be read: " in refusal(bundle)


@pytest.mark.parametrize("name", ["statistics-damaged-lzma.npz", "statistics-odd-npy-header.npz"])
def test_statistics_that_gave_a_traceback_are_refused(bundle: Path, root: Path, name: str) -> None:
    path = root.parent / "shared" / "cases" / name
    need(path.is_file(), f"{name} in ../shared/cases")
    replace_statistics(bundle, path.read_bytes())
    assert "statistics" in refusal(bundle)


def test_a_new_model_is_tried_once(demo_bundle: Path, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    assert load_after_trial(demo_bundle, tried).manifest.name == "demo-fan"
    (line,) = tried.read_text().splitlines()
    assert line.startswith(sha256((demo_bundle / "model.tflite").read_bytes()))
    written = tried.stat().st_mtime_ns
    assert load_after_trial(demo_bundle, tried).manifest.name == "demo-fan"
    assert tried.stat().st_mtime_ns == written
    tried.write_bytes(b"\xff\x00" * 100)  # damaged: tried again
    assert load_after_trial(demo_bundle, tried).manifest.name == "demo-fan"
    assert line in tried.read_text(errors="replace")


def test_a_refusal_of_the_trial_is_the_refusal_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    edit(bundle, {"golden.score": 1.0})
    with pytest.raises(BundleError, match=r"^[^\n]*demo-fan: golden score must be 1 within 0.5%, got [^\n]*$"):
        load_after_trial(bundle, tmp_path / "tried")
    assert not (tmp_path / "tried").exists()


def test_a_bundle_for_study_is_only_for_a_workstation(bundle: Path) -> None:
    edit(bundle, {"front_end.n_fft": 32_768})
    assert "bundle is too large" in refusal(bundle)
    with pytest.raises(BundleError, match="golden score"):
        load_bundle(bundle, budget=WORKSTATION)
