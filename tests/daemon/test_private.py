"""With `private: true` no tool gets sound to store."""

from contextlib import closing
from pathlib import Path

import pytest

from monitor.daemon.control import NAME, ControlError
from monitor.daemon.shared_microphone import open_shared
from monitor.errors import SourceError, UsageError
from tests.cli.tool import run
from tests.daemon.sharing import sharing
from tests.rig import virtual_microphone
from tests.waiting import wait_until


def test_record_refuses_by_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STETHOS_PRIVATE", "true")
    with pytest.raises(UsageError, match="record stores sound, which the configuration forbids"):
        run("record", "--microphone", "default", "--minutes", 1, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_service_shares_sound_for_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with virtual_microphone(tmp_path / "audio") as microphone:
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
        with sharing(tmp_path / NAME, "name:mic", microphone.environment, private=True):
            with pytest.raises(ControlError, match=r"storing sound is forbidden \(private: true\)"):
                open_shared(tmp_path / NAME, "name:mic", purpose="record")
            with pytest.raises(SourceError, match=r"storing sound is forbidden \(private: true\)"):
                run("record", "--microphone", "name:mic", "--minutes", 1, "--out", tmp_path / "out")
            stream = open_shared(tmp_path / NAME, "name:mic", purpose="measure")
            assert stream is not None
            with closing(stream):
                wait_until(stream.read)
    assert not list((tmp_path / "out").rglob("*.flac"))
