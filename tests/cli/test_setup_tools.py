"""What `monitor setup` reads from avahi-browse and amixer, as these print it."""

from pathlib import Path

import pytest

from monitor.cli.setup.broker import find_brokers
from monitor.cli.setup.microphone import gain_control_problems

BROWSED = """\
+;eth0;IPv6;Mosquitto\\032on\\032broker;_mqtt._tcp;local
+;eth0;IPv4;Mosquitto\\032on\\032broker;_mqtt._tcp;local
=;eth0;IPv6;Mosquitto\\032on\\032broker;_mqtt._tcp;local;broker.local;fe80::1;1883;
=;eth0;IPv4;Mosquitto\\032on\\032broker;_mqtt._tcp;local;broker.local;192.168.1.5;1883;"a=b"
"""
MIXER = """\
Simple mixer control 'Mic',0
  Capabilities: cvolume cvolume-joined cswitch cswitch-joined
  Capture channels: Mono
  Mono: Capture 10 [62%] [14.00dB] [on]
Simple mixer control 'Auto Gain Control',0
  Capabilities: pswitch pswitch-joined
  Playback channels: Mono
  Mono: Playback [{state}]
"""


def tool(folder: Path, name: str, output: str) -> None:
    (folder / f"{name}.txt").write_text(output)
    (folder / name).write_text(f"#!/bin/sh\ncat {folder}/{name}.txt\n")
    (folder / name).chmod(0o755)


def test_brokers_that_announce_themselves_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "avahi-browse", BROWSED)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert list(find_brokers()).count("broker.local") == 1
    assert not [place for place in find_brokers() if "fe80" in place]


def test_without_avahi_the_way_to_find_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    list(find_brokers())
    assert "avahi-browse (package avahi-utils), which is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["on", "off"])
def test_a_gain_control_that_is_on_is_named_with_the_command_that_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    tool(tmp_path, "amixer", MIXER.format(state=state))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    problems = list(gain_control_problems("2"))
    assert ["amixer -c 2 sset 'Auto Gain Control' off" in problem for problem in problems] == [True] * (state == "on")
