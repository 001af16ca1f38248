"""What a container is made of: a Debian system and over it the device's environment, both made once, in .venvs/nspawn."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT, need

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,python3-venv,libportaudio2,mosquitto,mosquitto-clients"
LOCK = ROOT / "requirements" / "device.txt"
CACHE = ROOT / ".venvs" / "nspawn"


def layers() -> list[Path]:
    """The environment's layer and the system's below it, for overlayfs; made or brought up to date where that is needed."""
    tools = ("debootstrap", "systemd-nspawn")
    need(os.geteuid() == 0 and all(map(shutil.which, tools)), f"root, {' and '.join(tools)} (apt-get install systemd-container)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        system = _layer("system", f"{SUITE} {PACKAGES}", _bootstrap)
        pins = (ROOT / "pyproject.toml").read_text() + LOCK.read_text()
        return [_layer("environment", system.name + pins, lambda folder: _install(folder, system)), system]


def build_wheel(folder: Path) -> Path:
    """The distribution as `pip install .` would make it, built beside the working tree."""
    source = folder / "source"
    for package in ("monitor", "train"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    _pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("stethos-*.whl"))


def _layer(name: str, made_from: str, build: Callable[[Path], None]) -> Path:
    done = CACHE / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    if not done.exists():
        for old in CACHE.glob(f"{name}-*"):
            shutil.rmtree(old)
        unfinished = CACHE / f"{name}-unfinished"
        unfinished.mkdir()
        build(unfinished)
        unfinished.rename(done)
    return done


def _bootstrap(folder: Path) -> None:
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder)
    for package in (folder / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def _install(folder: Path, system: Path) -> None:
    """Into an empty layer, all that the distribution needs; the distribution itself is installed at each boot.

    The packages come from where this computer's pip gets its own; the container has no network.
    """
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        wheels = work / "wheels"
        wheels.mkdir()
        build_wheel(wheels)
        locked = ("--require-hashes", "--no-deps", "--requirement", LOCK)
        _pip("download", "--only-binary=:all:", "--python-version", PYTHON, *locked, "--dest", wheels)
        for mount in ("root", "overlay"):
            (work / mount).mkdir()
        install = "./pip install -q --no-index --find-links /mnt 'stethos[web]'"
        inside = f"python3 -m venv /opt/stethos && cd /opt/stethos/bin && {install}"
        script = (
            'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/overlay" "$3/root"\n'
            'mount --bind "$3/wheels" "$3/root/mnt"\n'
            f'chroot "$3/root" sh -c "{inside} && ./pip uninstall -qy stethos"'
        )
        _run("unshare", "--mount", "sh", "-ec", script, "sh", system, folder, work)


def _pip(command: str, *arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-3000:]}"
