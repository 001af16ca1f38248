"""What a container is made of: a Debian system and over it the device's environment, both made once, in .venvs/nspawn."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.conftest import ROOT, need

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,python3-venv,libportaudio2,mosquitto,mosquitto-clients"
ARM64_PACKAGES = "python3,python3-venv,libportaudio2"
SOUND = "pulseaudio pulseaudio-utils libasound2-plugins alsa-utils bash-completion zsh fish man-db"
WANTED = "stethos[overview,update]"
LOCK = ROOT / "requirements" / "device.txt"
LOCK_OF_TESTS = ROOT / "requirements" / "device-tests.txt"
CACHE = ROOT / ".venvs" / "nspawn"
# Arm's numbers for the cores of a Raspberry Pi Zero 2 W, 4 and 5.
ARM64_PARTS = {"cortex-a53": "0xd03", "cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
INSIDE = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/overlay" "$3/root"
mount --bind "$4" "$3/root/mnt"
mount -t proc proc "$3/root/proc"
mount -t sysfs -o ro sysfs "$3/root/sys"
[ ! -e "$3/cpuinfo" ] || mount --bind "$3/cpuinfo" "$3/root/proc/cpuinfo"
exec chroot "$3/root" sh -ec "$5"
"""


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
    with _arm64_emulator():
        yield _layer("arm64", f"{SUITE} {ARM64_PACKAGES}", lambda root: _bootstrap(root, ARM64_PACKAGES, "--arch=arm64"))


@contextmanager
def _arm64_emulator() -> Iterator[None]:
    """Register the emulator with the kernel. The last of several processes removes it."""
    emulator = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
    need(emulator.exists(), "qemu-user-static")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (CACHE / "emulator.lock").open("w") as users, ExitStack() as stack:
        mounted = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", folder], check=False)
        need(mounted.returncode == 0, "a kernel with binfmt_misc")
        stack.callback(subprocess.run, ["umount", folder], check=True)
        fcntl.flock(users, fcntl.LOCK_SH)
        rule = Path(folder, "stethos-aarch64")
        with suppress(FileExistsError):
            Path(folder, "register").write_text(emulator.read_text().replace("qemu-aarch64", rule.name, 1))
        try:
            yield
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rule.write_text("-1")


@contextmanager
def arm64_with_tests() -> Iterator[list[Path]]:
    """That system below the device's pinned wheels, in /opt/wheels, and an environment of them with pytest, /opt/tests."""
    with arm64_layer() as system:
        made_from = f"{system.name} {LOCK_OF_TESTS.read_text()}"
        yield [_layer("tests-arm64", made_from, lambda folder: _install_arm64(folder, system)), system]


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


def _install_arm64(folder: Path, system: Path) -> None:
    """Install the wheels for 64-bit ARM with the pip of that system, which has to accept each of them."""
    wheels = folder / "opt" / "wheels"
    wheels.mkdir(parents=True)
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]  # bookworm has 2.36
    options = [word for platform in platforms for word in ("--platform", platform)]
    locked = ("--no-deps", "--require-hashes", "--requirement")
    _pip("download", "--only-binary=:all:", "--python-version", PYTHON, *options, *locked, LOCK_OF_TESTS, "--dest", wheels)
    shutil.copy(LOCK_OF_TESTS, wheels)
    install = f"--isolated install -q --no-index --find-links /opt/wheels {' '.join(locked)} /opt/wheels/{LOCK_OF_TESTS.name}"
    inside(f"python3 -m venv /opt/tests && /opt/tests/bin/pip {install}", folder, system, core="cortex-a53")


def inside(command: str, folder: Path, *below: Path, mounted: Path = Path("/mnt"), core: str | None = None) -> None:
    """Run a command in the system of these layers, the uppermost first; what it changes is written to the folder.

    A system for 64-bit ARM runs on this core. LiteRT chooses its code by what the kernel reports of the cores.
    """
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        for mount in ("root", "overlay"):
            Path(work, mount).mkdir()
        environment = dict(os.environ)
        if core is not None:
            Path(work, "cpuinfo").write_text(cpuinfo(core))
            environment["QEMU_CPU"] = core
        arguments: list[Path | str] = [":".join(map(str, below)), folder, work, mounted, command]
        # What a command leaves running ends with it.
        unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        _run(*unshare, "sh", "-ec", INSIDE, "sh", *arguments, environment=environment)


def cpuinfo(core: str) -> str:
    """The file /proc/cpuinfo of a computer with four such cores. The emulator passes on the one of this computer."""
    fields = {"BogoMIPS": "38.40", "Features": "fp asimd evtstrm crc32 cpuid", "CPU implementer": "0x41", "CPU architecture": "8"}
    fields |= {"CPU variant": "0x0", "CPU part": ARM64_PARTS[core], "CPU revision": "4"}
    lines = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    return "".join(f"processor\t: {number}\n{lines}\n" for number in range(4))


def _pip(command: str, *arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    output = subprocess.PIPE
    done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-3000:]}"
