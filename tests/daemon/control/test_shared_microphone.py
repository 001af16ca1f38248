"""The service shares a microphone by a stream that can only be read, and no tool disturbs it."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from monitor.audio.gaps import UnbrokenSound
from monitor.audio.ring import SoundFormat
from monitor.daemon.control.shared_microphone import SoundStream, open_shared
from monitor.daemon.control.socket import NAME, ControlError
from tests.daemon.control.sharing import sharing
from tests.rig import VirtualMicrophone, virtual_microphone
from tests.waiting import wait_until

RATE_HZ = 48_000
FORM = SoundFormat(RATE_HZ, 1, "int32")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[VirtualMicrophone]:
    with virtual_microphone(tmp_path / "rig") as rig:
        yield rig


def opened(path: Path, *, past: bool = False) -> SoundStream:
    stream = open_shared(path, "name:mic", past=past)
    assert stream is not None
    return stream


def received(stream: SoundStream, *, seconds: float) -> list[UnbrokenSound]:
    sounds: list[UnbrokenSound] = []

    def is_enough() -> bool:
        sounds.extend(stream.read())
        return sum(sound.n_frames for sound in sounds) >= seconds * RATE_HZ

    wait_until(is_enough)
    return sounds


def gaps(sounds: list[UnbrokenSound]) -> list[int]:
    """Jumps of the frame number."""
    return [b.frame - a.frame - a.n_frames for a, b in pairwise(sounds) if b.frame != a.frame + a.n_frames]


@pytest.mark.parametrize("action", ["stream", "ring"])
def test_no_memory_of_the_service_is_handed_out(rig: VirtualMicrophone, tmp_path: Path, action: str) -> None:
    """A file descriptor of the ring could be mapped for writing, whatever its reader intends."""
    with sharing(tmp_path / NAME, "name:mic", rig.environment), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / NAME))
        connection.sendall(json.dumps({"do": action, "microphone": "name:mic", "for": "measure"}).encode() + b"\n")
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
    assert descriptors == []
    answer = json.loads(data.partition(b"\n")[0])
    assert answer == FORM._asdict() if action == "stream" else "do must be one of" in answer["error"]


def test_a_stream_is_unbroken_sound_in_the_devices_format(rig: VirtualMicrophone, tmp_path: Path) -> None:
    with sharing(tmp_path / NAME, "name:mic", rig.environment), closing(opened(tmp_path / NAME)) as stream:
        assert stream.form == FORM
        sounds = received(stream, seconds=1.0)
        assert sounds[0].begins
        assert all(len(sound.data) == sound.n_frames * FORM.frame_bytes for sound in sounds)
        assert gaps(sounds) == [] or any(sound.begins for sound in sounds[1:])  # a busy computer may lose some
        assert abs(sounds[-1].arrived_s - time.monotonic()) < 2.0


def test_a_stream_may_begin_with_what_was_heard_before(rig: VirtualMicrophone, tmp_path: Path) -> None:
    with sharing(tmp_path / NAME, "name:mic", rig.environment):
        with closing(opened(tmp_path / NAME)) as stream:
            earlier = received(stream, seconds=2.0)
        with closing(opened(tmp_path / NAME, past=True)) as stream:
            sounds = received(stream, seconds=3.0)
        for purpose in ("listen", "record"):
            with pytest.raises(ControlError, match="past sound is only for measuring"):
                open_shared(tmp_path / NAME, "name:mic", purpose=purpose, past=True)
    first = earlier[0]
    assert sounds[0].frame <= first.frame
    same = next(sound for sound in sounds if sound.frame <= first.frame < sound.frame + sound.n_frames)
    at = (first.frame - same.frame) * FORM.frame_bytes
    n_bytes = min(len(first.data), len(same.data) - at)
    assert first.data[:n_bytes] == same.data[at : at + n_bytes]


def test_a_slow_tool_gets_a_gap_and_disturbs_no_other(rig: VirtualMicrophone, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with (
        sharing(tmp_path / NAME, "name:mic", rig.environment, ring_s=1.0, log=log),
        closing(opened(tmp_path / NAME)) as slow,
        closing(opened(tmp_path / NAME)) as other,
    ):
        first = received(slow, seconds=0.5)
        undisturbed = received(other, seconds=6.0)
        rest = received(slow, seconds=3.0)
    assert max(gaps(first + rest)) > RATE_HZ
    assert max(gaps(undisturbed), default=0) < RATE_HZ / 2
    lines = [line for line in log.read_text().splitlines() if "too slowly" in line]
    assert len(lines) == 1
    assert lines[0].startswith("microphone name:mic: a tool reads its stream too slowly and missed ")


def test_a_stream_ends_with_the_device_and_the_reason_follows(rig: VirtualMicrophone, tmp_path: Path) -> None:
    with sharing(tmp_path / NAME, "name:mic", rig.environment), closing(opened(tmp_path / NAME)) as stream:
        received(stream, seconds=0.5)
        rig.kill()

        def has_ended() -> bool:
            stream.read()
            return stream.ended

        wait_until(has_ended)
        with pytest.raises(ControlError, match=r"^refused by the service: (lost|failed|absent|being opened)"):
            open_shared(tmp_path / NAME, "name:mic")


def test_a_microphone_that_is_not_configured_is_refused(rig: VirtualMicrophone, tmp_path: Path) -> None:
    refused = pytest.raises(ControlError, match="no configured microphone is name:other")
    with sharing(tmp_path / NAME, "name:mic", rig.environment), refused:
        open_shared(tmp_path / NAME, "name:other")
