"""What a container is made of: a Debian system and over it the device's environment, both made once, in .venvs/nspawn."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import ROOT, need

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,python3-venv,libportaudio2,mosquitto,mosquitto-clients"
ARM64_PACKAGES = "python3,libportaudio2"
SOUND = "pulseaudio pulseaudio-utils libasound2-plugins alsa-utils bash-completion zsh fish man-db"
WANTED = "stethos[overview,update]"
LOCK = ROOT / "requirements" / "device.txt"
CACHE = ROOT / ".venvs" / "nspawn"


def layers() -> list[Path]:
    """The environment's layer and the system's below it, for overlayfs; made or brought up to date where that is needed."""
    system = system_layer()
    pins = (ROOT / "pyproject.toml").read_text() + LOCK.read_text()
    return [_layer("environment", system.name + pins + WANTED, lambda folder: _install(folder, system)), system]


def layers_with_sound() -> list[Path]:
    """The system without our environment, over it a microphone without hardware, shells and the reader of manual pages."""
    system = system_layer()
    command = f"apt-get update && apt-get install -y --no-install-recommends {SOUND} && apt-get clean"
    return [_layer("sound", system.name + SOUND, lambda folder: inside(command, folder, system)), system]


def system_layer() -> Path:
    """A Debian system."""
    return _layer("system", f"{SUITE} {PACKAGES}", _bootstrap)


@contextmanager
def arm64_layer() -> Iterator[Path]:
    """A Debian system for 64-bit ARM; its programs run within `with`, slowly, if the kernel has binfmt_misc."""
    emulator = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
    need(emulator.exists(), "qemu-user-static")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        mounted = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", folder], check=False)
        need(mounted.returncode == 0, "a kernel with binfmt_misc")
        stack.callback(subprocess.run, ["umount", folder], check=True)
        if not (rule := Path(folder, "qemu-aarch64")).exists():
            Path(folder, "register").write_text(emulator.read_text())
            stack.callback(rule.write_text, "-1")
        yield _layer("arm64", f"{SUITE} {ARM64_PACKAGES}", lambda root: _bootstrap(root, ARM64_PACKAGES, "--arch=arm64"))


def copy_source(folder: Path) -> Path:
    """What a wheel is built from, beside the working tree."""
    source = folder / "source"
    need((ROOT / "monitor/web/static/index.html").exists(), "the page (scripts/make-page)")
    for package in ("monitor", "train", "configs", "systemd", "models", "demo"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


def build_wheel(folder: Path) -> Path:
    """The distribution as `pip install .` would make it, built beside the working tree."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy_source(folder))
    return next(folder.glob("stethos-*.whl"))


def _layer(name: str, made_from: str, build: Callable[[Path], None]) -> Path:
    tools = ("debootstrap", "systemd-nspawn")
    need(os.geteuid() == 0 and all(map(shutil.which, tools)), f"root, {' and '.join(tools)} (apt-get install systemd-container)")
    done = CACHE / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            unfinished = CACHE / f"{name}-unfinished"
            unfinished.mkdir()
            build(unfinished)
            unfinished.rename(done)
    return done


def _bootstrap(folder: Path, packages: str = PACKAGES, *options: str) -> None:
    _run("debootstrap", "--variant=minbase", *options, f"--include={packages}", SUITE, folder)
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
        install = f"./pip install -q --no-index --find-links /mnt '{WANTED}'"
        command = f"python3 -m venv /opt/stethos && cd /opt/stethos/bin && {install} && ./pip uninstall -qy stethos"
        inside(command, folder, system, mounted=wheels)


def inside(command: str, folder: Path, system: Path, *, mounted: Path = Path("/mnt")) -> None:
    """Run a command in the system; what it changes is written to the folder."""
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        for mount in ("root", "overlay"):
            Path(work, mount).mkdir()
        script = (
            'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/overlay" "$3/root"\n'
            'mount --bind "$4" "$3/root/mnt"\n'
            'exec chroot "$3/root" sh -ec "$5"'
        )
        _run("unshare", "--mount", "sh", "-ec", script, "sh", system, folder, work, mounted, command)


def _pip(command: str, *arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-3000:]}"
