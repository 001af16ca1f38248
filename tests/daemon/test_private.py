"""Where the configuration says `private: true`, no tool gets sound to keep."""

from pathlib import Path

import pytest

from monitor.daemon.control import NAME, ControlError
from monitor.daemon.shared_microphone import open_shared
from monitor.errors import SourceError, UsageError
from tests.cli.tool import run
from tests.daemon.lender import lending
from tests.rig import virtual_microphone


def test_record_refuses_by_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STETHOS_PRIVATE", "true")
    with pytest.raises(UsageError, match="record keeps sound, which the configuration forbids"):
        run("record", "--microphone", "default", "--minutes", 1, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_service_lends_it_for_figures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with virtual_microphone(tmp_path / "audio") as microphone:
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
        with lending(tmp_path / NAME, "name:mic", microphone.environment, private=True):
            with pytest.raises(ControlError, match=r"no sound may be kept \(private: true\)"):
                open_shared(tmp_path / NAME, "name:mic", purpose="record")
            with pytest.raises(SourceError, match=r"no sound may be kept \(private: true\)"):
                run("record", "--microphone", "name:mic", "--minutes", 1, "--out", tmp_path / "out")
            ring = open_shared(tmp_path / NAME, "name:mic", purpose="measure")
            assert ring is not None
            ring.close()
    assert not list((tmp_path / "out").rglob("*.flac"))
