"""A device whose name is not UTF-8 is listed and opened like the others: real PortAudio, real ALSA."""

from contextlib import closing
from pathlib import Path

import pytest

from monitor.audio.capture_process import list_devices
from monitor.audio.microphone import Microphone
from tests.audio.test_microphone import RATE_HZ, Listener
from tests.rig import PCM, virtual_microphone


def test_a_name_in_latin_1_hides_no_microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with virtual_microphone(tmp_path / "rig") as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        odd = PCM.format("NAME", f"{tmp_path}/rig/pulse.sock").replace("pcm.NAME", "pcm.'l\xfcfter'").encode("latin-1")
        (tmp_path / "rig/.asoundrc").write_bytes(rig.pcm.encode() + odd)
        listed = {device.name: device.selector for device in list_devices()}
        assert listed["mic"] == "name:mic"
        assert listed["l\\xfcfter"] == "name:l\\xfcfter"
        for selector in ("name:mic", "name:l\\xfcfter"):
            with closing(Microphone(selector, wanted_rate_hz=RATE_HZ)) as microphone:
                Listener(microphone).until_sound()
                assert microphone.trouble is None
                assert (microphone.device or "").startswith(selector.removeprefix("name:"))
