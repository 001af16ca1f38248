"""The wheel in an environment of its own, away from the checkout: everything that a device needs is in it."""

import hashlib
import json
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import __version__
from tests.conftest import ROOT
from tests.packages.conftest import Build
from tests.system.debian import build_wheel, copy_source

LIBRARIES = ROOT / ".venvs" / f"deb-{platform.machine()}" / "usr/lib/stethos/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def wheel(build: Build) -> Path:
    return next(build("wheel").glob("*.whl"))


class Installed:
    """The wheel in a new virtual environment, with the libraries that the Debian package carries."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "TMPDIR": "/tmp"}
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        (site,) = folder.glob("venv/lib/python*/site-packages")
        (site / "libraries.pth").write_text(f"{LIBRARIES}\n")
        self.run("pip", "install", "-q", "--no-index", f"{wheel}[web,notify]")  # which checks that nothing is missing

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / words[0]), *map(str, words[1:])]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def shipped(self, name: str) -> Path:
        return Path(self.run("python", "-c", f"from monitor.shipped import shipped; print(shipped({name!r}))").stdout.strip())


@pytest.fixture(scope="module")
def installed(wheel: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    yield Installed(tmp_path_factory.mktemp("installed"), wheel)


def contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_the_wheel_from_the_source_distribution_is_that_of_the_tree(wheel: Path, tmp_path: Path) -> None:
    """scripts/package builds the first from the second."""
    assert contents(wheel) == contents(build_wheel(tmp_path))


def test_it_carries_what_the_checkout_has_beside_the_packages(installed: Installed) -> None:
    names = ["configs/monitor.yaml", "systemd/stethos.service", "systemd/stethos-web.service", "demo/fan-bearing.flac"]
    names += [f"models/{path.parent.name}/{path.name}" for path in ROOT.glob("models/*/*.*")]
    for name in names:
        assert installed.shipped(name).read_bytes() == (ROOT / name).read_bytes()
    (site,) = installed.folder.glob("venv/lib/python*/site-packages")
    assert sorted(path.name for path in (site / "train" / "recipes").glob("*.yaml")) == sorted(
        path.name for path in (ROOT / "train" / "recipes").glob("*.yaml")
    )


def test_its_commands_run(installed: Installed) -> None:
    assert installed.run("monitor", "--version").stdout == f"stethos {__version__}\n"
    default = installed.shipped("configs/monitor.yaml")
    assert "node: workshop" in installed.run("monitor", "--config", default, "check-config").stdout
    assert "stethos[train]" in installed.run("train", "--help").stdout


def test_it_replays_a_recording_with_a_shipped_bundle(installed: Installed) -> None:
    words: list[str | Path] = [
        "--replay",
        installed.shipped("demo/fan-bearing.flac"),
        "--model",
        installed.shipped("models/demo-fan"),
    ]
    lines = [json.loads(line) for line in installed.run("monitor", *words).stdout.splitlines()]
    assert [line["event_type"] for line in lines if "event_type" in line][:1] == ["start"]


def test_its_demonstration_starts(installed: Installed) -> None:
    command = [str(installed.bin / "monitor"), "demo"]
    demo = subprocess.Popen(command, cwd=installed.folder, env=installed.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("http://127.0.0.1:")
    finally:
        demo.terminate()
        demo.wait(30)


def test_without_the_page_it_is_not_built_and_says_what_to_run(tmp_path: Path) -> None:
    source = copy_source(tmp_path)
    (source / "monitor/web/static/index.html").unlink()
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "error: monitor/web/static/index.html is missing: run scripts/make-page\n" in done.stdout + done.stderr
