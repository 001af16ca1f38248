"""Root adapts a machine whose state directory belongs to the service's user, who has planted links there."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.audio.capture_process import CaptureLauncher
from monitor.bundle import load_bundle
from monitor.bundle.manifest import MANIFEST
from monitor.bundle.write import file_ref
from monitor.daemon.bundles.adaptations import FOLDER, IN_USE
from monitor.daemon.control.socket import NAME
from monitor.daemon.daemon import run_daemon
from monitor.errors import ConfigError
from tests.cli.bench import Bench, made
from tests.cli.checking.test_support import serving
from tests.conftest import need

USER = 61_184  # without an entry in the list of users, like the unit's
SECRET = "only root may read this"


@pytest.fixture
def victim(bench: Bench) -> Iterator[Path]:
    """Root's folder with a file and a folder. The state directory is another user's, who cannot enter its parent."""
    need(os.geteuid() == 0, "root")
    folder = bench.folder / "roots"
    (folder / "inner" / "below").mkdir(parents=True)
    (folder / "20200101T000000000000.npz").write_text(SECRET)
    (folder / "file").write_text(SECRET)
    for path in (folder, folder / "file", bench.folder):
        path.chmod(0o700 if path.is_dir() else 0o600)
    bench.state.mkdir()
    before = listing(folder)
    yield folder
    assert listing(folder) == before
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, os.getgroups())
    assert {path.lstat().st_uid for path in bench.state.rglob("*")} <= {USER}


def listing(folder: Path) -> dict[str, tuple[int, int, int, bytes | None]]:
    """Owner, mode, time and content of everything in a folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_uid, status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else None)
    return found


def give(bench: Bench) -> None:
    """Give the state directory with all that is in it to the service's user."""
    for path in (bench.state, *bench.state.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)


def plant(bench: Bench, where: str, target: Path) -> None:
    """Put a link in the place of a file or a folder of the state directory."""
    path = bench.state / where
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    give(bench)


@pytest.mark.parametrize("where", ["adapted", "adapted/fan", "adapted/fan/lock", "adapted/fan/in-use.json"])
@pytest.mark.parametrize("words", ["calibrate", "calibrate --undo"])
def test_no_link_is_followed(bench: Bench, victim: Path, words: str, where: str) -> None:
    plant(bench, where, victim if where.endswith(("adapted", "fan")) else victim / "file")
    sound = [] if "undo" in words else ["--from", bench.sound(made("fan"))]
    error = bench.run(*words.split(), *sound, status=1)
    assert where in error
    assert "link" in error
    assert SECRET not in error
    assert "/proc/" not in error


def test_a_link_to_a_file_that_does_not_exist_creates_none(bench: Bench, victim: Path) -> None:
    plant(bench, "adapted/fan/lock", victim / "new")
    assert "link" in bench.run("calibrate", "--undo", status=1)


@pytest.mark.parametrize("where", ["in-use.json.part", "calibrate-20200101T000000000000", "old"])
def test_links_that_are_in_the_way_are_replaced_or_left_alone(bench: Bench, victim: Path, where: str) -> None:
    plant(bench, f"{FOLDER}/fan/{where}", victim / "file" if "." in where else victim)
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    assert bench.used().id != load_bundle(bench.bundle).id
    assert "calibration undone" in bench.run("calibrate", "--undo")
    assert bench.used().id == load_bundle(bench.bundle).id


@pytest.mark.parametrize("where", ["learned", "learned/fan"])
def test_sessions_of_another_folder_are_neither_read_nor_removed(bench: Bench, victim: Path, where: str) -> None:
    plant(bench, where, victim)
    sound = bench.sound(made("pump", seconds=320.0))
    bench.run("learn", "--yes", "--from", sound)
    assert bench.used().id != load_bundle(bench.bundle).id
    assert f"{bench.state}/{where} is a link" in bench.run("learn", "--yes", "--extend", "--from", sound, status=1)


def test_files_that_are_written_belong_to_the_services_user(bench: Bench, victim: Path) -> None:
    give(bench)
    recording = bench.sound(made("pump", seconds=320.0))
    recording.chmod(0o600)  # root's own, as is the folder in which it lies
    bench.run("learn", "--yes", "--from", recording)
    bench.run("calibrate", "--from", recording)
    bench.run("check-config")
    out = bench.folder / "out"
    bench.run("calibrate", "--from", recording, "--out", out)
    assert {path.stat().st_uid for path in (out, *out.iterdir())} == {0}
    assert len(list((bench.state / "learned" / "fan").iterdir())) == 1


def test_a_network_that_was_put_into_an_adapted_bundle_is_not_run(
    bench: Bench, victim: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    give(bench)
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    (adapted,) = (bench.state / FOLDER / "fan").glob("calibrate-*")
    (adapted / "model.tflite").write_bytes(b"crafted")
    manifest = json.loads((adapted / MANIFEST).read_text())
    manifest["model"] |= file_ref("model.tflite", b"crafted")
    (adapted / MANIFEST).write_text(json.dumps(manifest))
    assert bench.used().id == load_bundle(bench.bundle).id
    assert "model.tflite must be the network of the configured bundle" in caplog.text


@pytest.mark.parametrize("name", ["../../roots", "/etc", "calibrate-1/../../../roots", ""])
def test_a_bundle_outside_the_machines_folder_is_not_loaded(
    bench: Bench, victim: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    give(bench)
    bench.run("calibrate", "--from", bench.sound(made("fan")))
    path = bench.state / FOLDER / "fan" / IN_USE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibrate": name}))
    assert bench.used().id == load_bundle(bench.bundle).id
    assert "calibrate: String should match pattern" in caplog.text


def test_the_control_socket_does_not_choose_the_state_directory(bench: Bench, victim: Path) -> None:
    give(bench)
    n_threads = threading.active_count()
    answer = {"state_dir": str(victim), "machines": {}}
    with serving(bench.folder / "run" / NAME, answer):
        error = bench.run("calibrate", "--from", bench.sound(made("fan")), status=2)
    assert f"state_dir must be that of the running service, {victim}, got {bench.state}" in error
    assert threading.active_count() <= n_threads + 1


def test_root_does_not_run_the_service_in_the_directory_of_another_user(bench: Bench, victim: Path) -> None:
    plant(bench, "kept.json.part", victim / "file")
    with pytest.raises(ConfigError, match=rf"state_dir .*/state belongs to user {USER}: run as that user"):
        run_daemon(bench.folder / "monitor.yaml", os.environ, CaptureLauncher())
