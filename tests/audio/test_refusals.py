"""A microphone that is listed but cannot be opened: real PortAudio above an ALSA that fails as a sound card does."""

import errno
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from monitor.audio.microphone import Microphone
from tests.audio.test_microphone import RATE_HZ, Listener
from tests.conftest import need
from tests.rig import virtual_microphone


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (errno.EBUSY, "busy", "mic: in use by another program"),
        (errno.EACCES, "failed", "mic: is listed, but ALSA cannot open it"),  # a real card's node gives the reason
    ],
)
def test_the_reason_is_reported_and_sound_follows_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, words: str
) -> None:
    refused_with, library = tmp_path / "refused-with", tmp_path / "refuse.so"
    need(shutil.which("cc") is not None, "a C compiler")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("refuse.c"), "-ldl"], check=True)
    refused_with.write_text(str(number))
    with virtual_microphone(tmp_path / "rig") as rig:
        for name, value in {**rig.environment, "REFUSED_WITH": str(refused_with), "LD_PRELOAD": str(library)}.items():
            monkeypatch.setenv(name, value)
        with closing(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
            listener = Listener(microphone)
            assert listener.until_trouble(reason) < 5
            assert microphone.trouble is not None
            assert words in microphone.trouble.detail
            assert "\n" not in microphone.trouble.detail
            refused_with.unlink()
            assert listener.until(lambda: microphone.trouble is None) < 6
            listener.until_sound()
