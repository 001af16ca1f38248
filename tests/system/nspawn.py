"""A real systemd in a container: Debian, mosquitto and `pip install` of this repository in /opt/stethos or other layers."""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.system.debian import build_wheel, layers

BOOT_S = 60
# Everything is mounted in a namespace of the container's own, so nothing of it is left behind however it ends.
START = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
exec systemd-nspawn --quiet --directory="$1/root" --machine="stethos-$$" --boot --notify-ready=yes --register=no --keep-unit \
    --private-network --capability=all --system-call-filter="bpf keyctl" --link-journal=no --console=pipe
"""


class Container:
    """One booted Debian, with no network but its own loopback. Run as root; commands are run inside as root."""

    def __init__(self, below: Sequence[Path] | None = None) -> None:
        """Over these layers; without them, the distribution is installed over its environment."""
        self._below = below
        self._folder = Path(tempfile.mkdtemp(prefix="stethos-container-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> "Container":
        try:
            self.boot()
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def boot(self) -> None:
        """Start it, wait until systemd is up, and install the distribution unless layers were given."""
        below = ":".join(map(str, layers() if self._below is None else self._below))
        (self._folder / "mount").mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (self._folder / "console").open("wb") as console:
            notified.bind(str(self._folder / "notify"))
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=TERM", "unshare", "--mount", "sh", "-ec", START, "sh", self._folder / "mount", below],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # cgroup v2: only there can systemd restrict devices from inside a container
                env={**os.environ, "NOTIFY_SOCKET": str(self._folder / "notify"), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
            self._wait_for_ready(notified)
        if self._below is not None:
            return
        wheel = build_wheel(self._folder)
        self.put(wheel, f"/root/{wheel.name}")
        self.check(f"/opt/stethos/bin/pip install -q --no-index --no-deps /root/{wheel.name}")

    def _wait_for_ready(self, notified: socket.socket) -> None:
        ends = time.monotonic() + BOOT_S
        said: dict[str, str] = {}
        while said.get("READY") != "1":
            ready = select.select([notified], [], [], 0.5)[0]
            if ready:
                said |= dict(line.split("=", 1) for line in notified.recv(4096).decode().splitlines())
            assert self._process is not None
            console = (self._folder / "console").read_text(errors="replace")
            assert self._process.poll() is None and time.monotonic() < ends, f"the container did not boot:\n{console}"
        self._leader = int(said["X_NSPAWN_LEADER_PID"])

    def run(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside."""
        inside = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "bash", "-c", command]
        return subprocess.run([*inside, *clean], capture_output=True, text=True, timeout=timeout_s, check=False)

    def check(self, command: str, *, timeout_s: float = 60) -> str:
        """The output of a command that must succeed."""
        done = self.run(command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Return as soon as the condition holds."""
        ends = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < ends, f"not within {timeout_s} s:\n{self.journal('stethos')[-3000:]}"
            time.sleep(0.2)

    def put(self, source: Path | str, target: str) -> None:
        """A file or folder of ours, or a text, into the container."""
        inside = Path(f"/proc/{self._leader}/root/{target}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            inside.write_text(source)
        elif source.is_dir():
            shutil.copytree(source, inside)
        else:
            shutil.copy(source, inside)

    def journal(self, unit: str) -> str:
        """What a unit, and systemd about it, has logged."""
        return self.check(f"journalctl --no-pager --output=cat --unit={unit}")

    def shutdown(self) -> None:
        """Power it off, the hard way after ten seconds."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()  # systemd-nspawn asks the system inside to power off, as it does when we are killed
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.kill(self._leader or self._process.pid, signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self._folder)
