"""A microphone without hardware: a PulseAudio null sink whose monitor is an ALSA device. What is played into it is heard."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import need

PCM = 'pcm.{0} {{ type pulse server "unix:{1}" device "machine.monitor" hint {{ show on description "virtual microphone" }} }}\n'


class VirtualMicrophone:
    """Several may run side by side. PortAudio sees it as `name` in processes that have its `environment`."""

    def __init__(self, folder: Path, *, name: str = "mic", rate_hz: int = 48000, channels: int = 1) -> None:
        need(shutil.which("pulseaudio") is not None and shutil.which("paplay") is not None, "pulseaudio and pulseaudio-utils")
        need(any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")), "libasound2-plugins")
        need(any(Path("/usr/lib").glob("*/libportaudio.so.2")), "libportaudio2")
        self.name = name
        self._socket = folder / "pulse.sock"
        self._sink = f"module-null-sink sink_name=machine rate={rate_hz} channels={channels} norewinds=1"
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "PULSE_SERVER": f"unix:{self._socket}",
        }
        self.pcm = PCM.format(name, self._socket)
        (folder / ".asoundrc").write_text(self.pcm)
        self._server: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Plug it in."""
        protocol = f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}"
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=1", "--high-priority=no"]
        self._server = self._run(["pulseaudio", *options, "-L", self._sink, "-L", protocol])
        for _ in range(400):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._socket)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("pulseaudio did not start")

    def play(self, path: Path) -> "subprocess.Popen[bytes]":
        """Play a sound file into it; returns the player, whose end is the sound's end. It buffers much: the computer is busy."""
        player = self._run(["paplay", "--device=machine", "--latency-msec=1000", str(path)])
        self._players.append(player)
        return player

    def kill(self) -> None:
        """Unplug it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def freeze(self) -> None:
        """From now on it is open and says nothing."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        for player in self._players:
            player.kill()
            player.wait()

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """Before other processes where that is allowed: a real microphone does not stumble because tests run beside it."""
        environment = {**os.environ, **self.environment}
        command = ["nice", "-n", "-15", *command]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def virtual_microphone(folder: Path, *, rate_hz: int = 48000, channels: int = 1) -> Iterator[VirtualMicrophone]:
    """One that runs, in an empty folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rig = VirtualMicrophone(folder, rate_hz=rate_hz, channels=channels)
    rig.start()
    try:
        yield rig
    finally:
        rig.close()


class Rack:
    """Microphones, each with a server of its own, that processes with its `environment` see side by side."""

    def __init__(self, folder: Path, microphones: Sequence[VirtualMicrophone]) -> None:
        self.microphones = microphones
        self.environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "XDG_CONFIG_HOME": str(folder / ".config")}
        self._listed = folder / ".asoundrc"
        self.plug(*microphones)

    def plug(self, *microphones: VirtualMicrophone) -> None:
        """From now on these are listed, in this order."""
        self._listed.write_text("".join(one.pcm for one in microphones))


@contextmanager
def virtual_microphones(folder: Path, *names: str, rate_hz: int = 48000, channels: int = 1) -> Iterator[Rack]:
    """Several that run, in an empty folder."""
    with ExitStack() as stack:
        microphones = []
        for name in names:
            (folder / name).mkdir(parents=True)
            microphones.append(VirtualMicrophone(folder / name, name=name, rate_hz=rate_hz, channels=channels))
            stack.callback(microphones[-1].close)
            microphones[-1].start()
        yield Rack(folder, microphones)
