"""The Debian package for 64-bit ARM in a Debian for it, under an emulator: the demonstration's events and scores."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.packages.conftest import Build
from tests.system.debian import arm64_layer, inside

pytestmark = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="minutes; with scripts/test --long")
REPLAY = "monitor --replay demo/fan-bearing.flac demo/fan-normal.flac --model models/demo-fan --scores"


def test_it_installs_accepts_the_configuration_and_replays_as_on_x86_64(build: Build, tmp_path: Path) -> None:
    changes = tmp_path / "changes"
    changes.mkdir()
    commands = (
        "apt-get install -y /mnt/*.deb </dev/null >&2; cd /usr/share/stethos",
        "monitor check-config >/root/settings",
        f"{REPLAY} >/root/scores",
        "apt-get purge -y stethos </dev/null >&2; [ ! -e /etc/stethos ]",
    )
    with arm64_layer() as system:
        inside("\n".join(commands), changes, system, mounted=build("arm64"), core="cortex-a53")
    assert "node: workshop" in (changes / "root" / "settings").read_text()
    here = [sys.executable, "-m", "monitor.cli.main", "--config", "configs/monitor.yaml", *REPLAY.split()[1:]]
    expected = subprocess.run(here, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = (changes / "root" / "scores").read_text()
    assert_close(list(map(json.loads, there.splitlines())), list(map(json.loads, expected.splitlines())))


def assert_close(got: Any, expected: Any, where: str = "") -> None:
    """The same structure and texts, numbers within 0.1 %."""
    if isinstance(expected, dict):
        assert list(got) == list(expected), where
        for key in expected:
            assert_close(got[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), where
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_close(one, other, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-6), where
    else:
        assert got == expected, where
