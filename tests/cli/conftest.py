"""A configured machine for commands that adapt bundles, and a virtual microphone for those that record."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.bench import Bench
from tests.rig import VirtualMicrophone, virtual_microphone


@pytest.fixture
def bench(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Bench:
    bundle = tmp_path / "demo-fan"
    shutil.copytree(demo_bundle, bundle)
    (tmp_path / "monitor.yaml").write_text("node: pi\nstate_dir: state\nruntime_dir: run\nmachines: {fan: {bundle: demo-fan}}\n")
    return Bench(tmp_path, bundle, capsys.readouterr, caplog)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    with virtual_microphone(tmp_path / "rig", channels=2) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
        yield rig
