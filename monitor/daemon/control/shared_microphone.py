"""Share the service's microphones with tools, by streaming their sound over the control socket.

A stream begins with a JSON line, `{"rate_hz": 48000, "n_channels": 2, "sample_format": "int32"}`. Each part of the sound is sent
as a JSON line with the fields of `UnbrokenSound` except `data`, followed by `n_frames` frames of interleaved samples. Gaps can be
detected from `frame` and `begins`. The stream ends when the device is closed.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from monitor.audio.devices import Device, Unavailable, device_from_json, device_to_json, find_device
from monitor.audio.gaps import SoundReader, UnbrokenSound
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Ring, SoundFormat
from monitor.daemon.control.socket import Reply, open_stream, request
from monitor.errors import SourceError
from monitor.log_limit import of_kind

log = logging.getLogger(__name__)
Purpose = Literal["record", "measure", "listen"]  # whether the tool stores sound, only measurements, or plays it to a person
POLL_S = 0.1
MAX_CHUNKS = 32  # copied from the ring at a time (3 s)


@dataclass(frozen=True)
class SharedMicrophone:
    """A microphone that the service has opened or is trying to open."""

    selector: str  # as configured
    device: Device | None  # None while it cannot be opened
    words: str | None  # device, rate, channels and format
    trouble: str | None  # why there is no sound


@dataclass
class Listening:
    """The microphone that a person listens to; one at a time."""

    selector: str | None = None


def microphone_status(microphones: Iterable[Microphone]) -> Reply:
    """The service's reply to `microphones`."""
    return Reply({"microphones": [_to_json(microphone) for microphone in microphones]})


def share_sound(
    microphones: Iterable[Microphone],
    request: dict[str, Any],
    *,
    private: bool = False,
    listening: Listening | None = None,
) -> Reply:
    """The service's reply to `stream`: the sound of `request["microphone"]` from now on, with `past` after what is buffered.

    If the configuration is `private`, only tools that measure are accepted. One person can listen at a time.
    """
    selector, purpose, past = request.get("microphone"), request.get("for"), request.get("past") is True
    if past and purpose != "measure":
        raise SourceError("past sound is only for measuring: nobody could know that it would be heard")
    if private and purpose != "measure":
        what = "listening" if purpose == "listen" else "storing sound"
        raise SourceError(f"{what} is forbidden (private: true)")
    if purpose == "listen" and listening is not None and listening.selector is not None:
        raise SourceError(f"somebody else is listening to {listening.selector}")
    matching = [microphone for microphone in microphones if microphone.selector == selector]
    if not matching:
        raise SourceError(f"no configured microphone is {str(selector)[:100]}")
    for microphone in matching:
        if microphone.ring is not None:
            stream = _stream(microphone, microphone.ring, past=past)
            if purpose == "listen" and listening is not None:
                stream = _listened(stream, listening, microphone.selector)
            return Reply(microphone.ring.format._asdict(), stream)
    trouble = matching[0].trouble
    raise SourceError("being opened" if trouble is None else f"{trouble.reason}: {trouble.detail}")


async def _stream(microphone: Microphone, ring: Ring, *, past: bool) -> AsyncGenerator[bytes, None]:
    """Stream a ring. It is the only buffer: sound that a slow client does not read in time is overwritten and becomes a gap."""
    reader = SoundReader(ring, backlog=past)
    next_frame, is_late = None, False
    while microphone.ring is ring:
        sounds = reader.read(max_chunks=MAX_CHUNKS)
        for sound in sounds:
            if next_frame is not None and sound.frame > next_frame and not is_late:
                is_late = True
                lost_s = (sound.frame - next_frame) / ring.format.rate_hz
                log.warning(
                    "microphone %s: a tool reads its stream too slowly and missed %.1f s",
                    microphone.selector,
                    lost_s,
                    extra=of_kind(f"slow reader of {microphone.selector}"),
                )
            next_frame = sound.frame + sound.n_frames
            yield _to_bytes(sound)
        await asyncio.sleep(0.0 if sounds else POLL_S)
    for sound in reader.release():
        yield _to_bytes(sound)


async def _listened(stream: AsyncGenerator[bytes, None], listening: Listening, selector: str) -> AsyncGenerator[bytes, None]:
    """The stream, unless another listener was faster."""
    if listening.selector is not None:
        return
    listening.selector = selector
    try:
        async for data in stream:
            yield data
    finally:
        listening.selector = None
        await stream.aclose()


def _to_bytes(sound: UnbrokenSound) -> bytes:
    header = sound._asdict()
    del header["data"]
    return json.dumps(header).encode() + b"\n" + sound.data


class SoundStream:
    """The client side of a stream. No call blocks."""

    def __init__(self, form: SoundFormat, connection: socket.socket, received: bytes) -> None:
        self.form = form
        self.ended = False  # closed by the service
        self._connection = connection
        self._connection.setblocking(False)
        self._received = bytearray(received)

    def read(self) -> list[UnbrokenSound]:
        """The sound since the last call."""
        while not self.ended:
            try:
                data = self._connection.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError:  # the service was killed
                data = b""
            self.ended = not data
            self._received += data
        return list(iter(self._next, None))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _next(self) -> UnbrokenSound | None:
        """The next part, if it has arrived completely."""
        end = self._received.find(b"\n") + 1
        if not end:
            return None
        header = json.loads(self._received[:end])
        n_bytes = header["n_frames"] * self.form.frame_bytes
        if len(self._received) < end + n_bytes:
            return None
        data = bytes(self._received[end : end + n_bytes])
        del self._received[: end + n_bytes]
        return UnbrokenSound(data=data, **header)


def shared_microphones(path: Path) -> list[SharedMicrophone]:
    """The microphones of the service at this control socket; empty if no service is running."""
    reply = request(path, {"do": "microphones"})
    return [] if reply is None else [_from_json(item) for item in reply.body["microphones"]]


def find_shared(shared: Sequence[SharedMicrophone], selector: str) -> SharedMicrophone | None:
    """The shared microphone that a selector matches, by identical text or by device."""
    for one in shared:
        if one.selector == selector:
            return one
    devices = [one.device for one in shared if one.device is not None and (selector != "default" or one.device.is_default)]
    try:
        found = find_device(devices, selector) if devices else None
    except Unavailable:
        return None
    return next((one for one in shared if one.device is not None and one.device == found), None)


def open_shared(path: Path, selector: str, *, purpose: Purpose = "measure", past: bool = False) -> SoundStream | None:
    """Open the stream of one of the service's microphones, which the caller must close. None if no service is running.

    With `past`, it begins with the sound that the service has buffered, some 7 s; only to measure.
    """
    opened = open_stream(path, {"do": "stream", "microphone": selector, "for": purpose, "past": past})
    if opened is None:
        return None
    body, connection, received = opened
    return SoundStream(SoundFormat(**body), connection, received)


def _to_json(microphone: Microphone) -> dict[str, Any]:
    device, trouble = microphone.opened, microphone.trouble
    return {
        "selector": microphone.selector,
        "device": None if device is None else device_to_json(device),
        "words": microphone.device,
        "trouble": None if trouble is None else f"{trouble.reason}: {trouble.detail}",
        **asdict(microphone.counts),
    }


def _from_json(item: dict[str, Any]) -> SharedMicrophone:
    device = None if item["device"] is None else device_from_json(item["device"])
    return SharedMicrophone(item["selector"], device, item["words"], item["trouble"])
