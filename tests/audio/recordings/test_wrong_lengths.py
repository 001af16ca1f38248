"""Headers that state a wrong length: all sound is read, with one warning; sound that is missing or cannot be read is an error."""

import errno
import struct
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from monitor.arrays import F32
from monitor.audio.recording import Recording
from monitor.audio.sound_file import _View
from monitor.errors import SourceError
from tests.signals import hum, noise

RATE_HZ = 16_000
SOUND = hum(0, 2 * RATE_HZ)
N_BYTES = 2 * len(SOUND)
FIELDS = {  # where a format states the bytes of sound: the text before it, bytes between, code, surplus
    "WAV": (b"data", 0, "<I", 0),
    "WAVEX": (b"data", 0, "<I", 0),
    "RF64": (b"ds64", 12, "<Q", 0),
    "W64": (b"data", 12, "<Q", 24),
    "AIFF": (b"SSND", 0, ">I", 8),
    "AU": (b".snd", 4, ">I", 0),
    "CAF": (b"data\0\0", -2, ">q", 4),
}


def recorded(path: Path, container: str, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, SOUND, RATE_HZ, format=container, subtype=subtype)
    return path


def state(path: Path, container: str, n_bytes: int) -> None:
    """Change the length in the header."""
    name, skip, code, surplus = FIELDS[container]
    content = bytearray(path.read_bytes())
    at = content.index(name) + len(name) + skip
    limit = (1 << 8 * struct.calcsize(code)) - 1
    if code == ">q":
        struct.pack_into(code, content, at, n_bytes + surplus if n_bytes >= 0 else -1)
    else:
        struct.pack_into(code, content, at, min(limit, n_bytes + surplus) & limit if n_bytes else 0)
    path.write_bytes(content)


def samples_of(path: Path) -> F32:
    return np.concatenate([block.samples for block in Recording(path, sample_rate_hz=RATE_HZ).blocks()])


def expected() -> F32:
    return np.asarray(np.rint(SOUND * 32768).astype(np.int16) / np.float32(32768), np.float32)


@pytest.mark.parametrize("container", FIELDS)
@pytest.mark.parametrize(
    "stated",
    [0, N_BYTES // 2, N_BYTES + 44, N_BYTES + 600, 0x7F00_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF - 44],
    ids=["killed", "wrapped", "header", "more", "sox-aiff", "sox", "2GiB", "4GiB"],
)
def test_all_sound_is_read_and_the_difference_is_logged(
    container: str, stated: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = recorded(tmp_path / "a", container)
    state(path, container, stated)
    read = samples_of(path)
    assert len(read) == len(SOUND)
    np.testing.assert_allclose(read, expected(), atol=1e-4)
    (message,) = caplog.messages
    few = "fewer" if stated < N_BYTES else "more"
    assert message.startswith(
        f"{path}: the header states {stated} bytes of sound, {abs(stated - N_BYTES)} {few} than the file holds"
    )


@pytest.mark.parametrize(("container", "stated"), [("AU", 0xFFFF_FFFF), ("CAF", -1)])
def test_a_format_may_leave_the_length_open(
    container: str, stated: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = recorded(tmp_path / "a", container)
    state(path, container, stated)
    assert len(samples_of(path)) == len(SOUND)
    assert caplog.messages == []


def test_a_right_header_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for container in FIELDS:
        assert len(samples_of(recorded(tmp_path / container, container))) == len(SOUND)
    assert caplog.messages == []


@pytest.mark.parametrize("container", FIELDS)
def test_sound_that_is_missing_is_an_error(container: str, tmp_path: Path) -> None:
    path = recorded(tmp_path / "a", container)
    path.write_bytes(path.read_bytes()[: -N_BYTES // 4])
    read = []
    with pytest.raises(
        SourceError, match=rf"is truncated after 1\.\d+ s \(\d+ samples\): its header states {N_BYTES // 4} bytes more"
    ):
        read += list(Recording(path, sample_rate_hz=RATE_HZ).blocks())


@pytest.mark.parametrize(
    "tail",
    [b"LIST" + struct.pack("<I", 4) + b"INFO", b"id3 " + struct.pack("<I", 5000), b"TAG" + bytes(125), bytes(5000), b"x"],
    ids=["chunk", "damaged-tag", "id3v1", "padding", "byte"],
)
def test_data_behind_the_sound_is_no_sound(tail: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = recorded(tmp_path / "a.wav", "WAV")
    path.write_bytes(path.read_bytes() + tail)
    assert len(samples_of(path)) == len(SOUND)
    assert caplog.messages == []


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "CAF"])
def test_a_second_recording_in_the_file_is_an_error(container: str, tmp_path: Path) -> None:
    path = recorded(tmp_path / "a", container)
    content = path.read_bytes()
    path.write_bytes(content + content)
    message = f"its header states {N_BYTES} bytes, but {len(content)} bytes of other sound follow"
    with pytest.raises(SourceError, match=message):
        samples_of(path)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610", "ULAW", "PCM_U8", "FLOAT"])
def test_other_encodings_are_read_whole(subtype: str, tmp_path: Path) -> None:
    whole, wrong = recorded(tmp_path / "a.wav", "WAV", subtype), recorded(tmp_path / "b.wav", "WAV", subtype)
    state(wrong, "WAV", 0)
    np.testing.assert_array_equal(samples_of(wrong), samples_of(whole))


@pytest.mark.parametrize(("container", "code"), [("WAV", "<"), ("AIFF", ">"), ("AU", ">")])
def test_sound_beyond_4_gib_is_read(container: str, code: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sparse file: silence, with sound at the end, in which the length has wrapped."""
    path = tmp_path / "long"
    rate_hz, n_channels, n_bytes = 192_000, 2, (1 << 32) + 8_000_000
    soundfile.write(path, np.zeros((0, n_channels)), rate_hz, format=container, subtype="PCM_16")
    state(path, container, n_bytes % (1 << 32))
    sound = np.repeat(np.rint(noise(1, rate_hz) * 32768).astype(f"{code}i2")[:, None], n_channels, axis=1)
    with path.open("r+b") as file:
        start = file.seek(0, 2)
        file.truncate(start + n_bytes)
        file.seek(-sound.nbytes, 2)
        file.write(sound.tobytes())
    recording = Recording(path, sample_rate_hz=rate_hz)
    assert recording.n_samples == n_bytes // 4
    (block,) = recording.blocks(start_s=recording.n_samples / rate_hz - 1.0, stop_s=1e6)
    np.testing.assert_array_equal(block.samples, sound[:, 0].astype(np.float32) / np.float32(32768))
    assert f"{1 << 32} fewer than the file holds" in caplog.text


def flac(path: Path, n_samples: int) -> Path:
    """A FLAC file of SOUND that states `n_samples`."""
    soundfile.write(path, SOUND, RATE_HZ, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | n_samples >> 32
    content[22:26] = (n_samples & 0xFFFF_FFFF).to_bytes(4, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("stated", [0, len(SOUND) // 2, 1])
def test_flac_is_read_to_its_last_frame(stated: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = samples_of(flac(tmp_path / "a.flac", stated))
    assert len(read) == len(SOUND)
    np.testing.assert_array_equal(read, samples_of(flac(tmp_path / "b.flac", len(SOUND))))
    assert ("the header states" in caplog.text) == (stated > 0)


def test_flac_that_states_more_is_truncated(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is truncated after 2\.000 s \(32000 samples\): its header states 500 samples more"):
        samples_of(flac(tmp_path / "a.flac", len(SOUND) + 500))


@pytest.mark.parametrize(
    ("name", "container", "subtype", "remark"),
    [
        ("a.ogg", "OGG", "VORBIS", "Ogg: "),
        ("a.opus", "OGG", "OPUS", "Ogg : "),
        ("a.voc", "VOC", "PCM_16", "Seems to be a truncated file."),
        ("a.svx", "SVX", "PCM_16", "FORM : "),
    ],
)
def test_a_missing_end_is_one_warning(
    name: str, container: str, subtype: str, remark: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """These files do not state their length to us, but libsndfile notices that they were cut off."""
    path = tmp_path / name
    soundfile.write(path, SOUND, RATE_HZ, format=container, subtype=subtype)
    n_whole = len(samples_of(path))
    assert caplog.messages == []
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    assert 0 < len(samples_of(path)) < n_whole
    (message,) = caplog.messages
    assert message.startswith(f"{path}: its end seems to be missing ({remark}")
    assert message.endswith("; reading what there is")


@pytest.mark.parametrize("rate_hz", [1, 8, 999])
def test_a_rate_below_1_khz_is_refused(rate_hz: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", SOUND, rate_hz)
    with pytest.raises(SourceError, match=rf"a\.wav: the sample rate must be in 1000\.\.1000000 Hz, got {rate_hz}$"):
        Recording(tmp_path / "a.wav", sample_rate_hz=RATE_HZ)


def mp3_without_sound() -> bytes:
    """An Xing header that states two frames and 100 positions, and two empty frames, all of which are the encoder's delay."""
    head = bytes.fromhex("fff38440") + bytes(17)
    info = b"Xing" + struct.pack(">III", 0xF, 2, 576) + bytes(range(100)) + bytes(4)
    delay = b"LAME3.100" + bytes(12) + bytes.fromhex("240480")  # 576 samples before, 1152 behind
    return (head + info + delay).ljust(192, b"\0") + 2 * head.ljust(192, b"\0")


def test_sound_without_samples_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(mp3_without_sound())
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE_HZ)
    for path in tmp_path.iterdir():
        with pytest.raises(SourceError, match=r"a\.\w+: holds no samples$"):
            samples_of(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0"),
        ("a b.bin", b"\0\0\0\x18ftypmp42"),
        ("a.wma", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
        ("a.webm", bytes.fromhex("1a45dfa39f4286810142f7810142f281")),
        ("a.aac", bytes.fromhex("fff15080017ffc")),
        ("a.amr", b"#!AMR\n"),
    ],
)
def test_formats_that_libsndfile_lacks_get_the_command_that_converts_them(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content + np.random.default_rng(0).bytes(5000))
    with pytest.raises(SourceError) as caught:
        Recording(path, sample_rate_hz=RATE_HZ)
    quoted = f"'{path}' '{path.with_suffix('.flac')}'" if " " in name else f"{path} {path.with_suffix('.flac')}"
    assert str(caught.value).endswith(f"; convert it: ffmpeg -i {quoted}")


@pytest.mark.parametrize("n_reads", [0, 1, 3])
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_no_interrupt_and_no_disk_error_is_lost_in_libsndfile(
    failure: BaseException, n_reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(flac(tmp_path / "a.flac", len(SOUND)), sample_rate_hz=RATE_HZ)
    read, n = _View.readinto, 0

    def fail(file: BinaryIO, at: int) -> int:
        raise failure

    def readinto(view: _View, buffer: bytearray) -> int:
        nonlocal n
        n += 1
        if n > n_reads:
            view._file = SimpleNamespace(seek=partial(fail, view._file))  # type: ignore[assignment]
        return read(view, buffer)

    monkeypatch.setattr(_View, "readinto", readinto)
    with pytest.raises(type(failure)):
        list(recording.blocks())
    assert capfd.readouterr().err == ""
