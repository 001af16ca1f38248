"""With `private: true` no tool gets sound to store."""

import stat
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from monitor.config import Config
from monitor.daemon.bundles.load import exposed_files
from monitor.daemon.control.shared_microphone import open_shared
from monitor.daemon.control.socket import NAME, ControlError
from monitor.errors import SourceError, UsageError
from tests.cli.tool import run
from tests.daemon.control.sharing import sharing
from tests.daemon.daemon_process import DaemonProcess
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
            with pytest.raises(ControlError, match="past sound is only for measuring"):
                open_shared(tmp_path / NAME, "name:mic", purpose="listen", past=True)
            stream = open_shared(tmp_path / NAME, "name:mic", purpose="measure", past=True)
            assert stream is not None
            with closing(stream):
                wait_until(stream.read)
    assert not list((tmp_path / "out").rglob("*.flac"))


@pytest.mark.parametrize(("mode", "folder_mode", "exposed"), [(0o644, 0o755, True), (0o640, 0o755, False), (0o644, 0o750, False)])
def test_secrets_that_other_users_can_read_are_named(mode: int, folder_mode: int, exposed: bool) -> None:
    with TemporaryDirectory() as name:  # pytest's own folder is closed to others
        folder = Path(name)
        for file in ("password", "node.key", "node.pem"):
            (folder / file).touch(mode)
            (folder / file).chmod(mode)
        (folder / "state").mkdir(mode=0o700)
        folder.chmod(folder_mode)
        tls = {"ca": folder / "node.pem", "certificate": folder / "node.pem", "key": folder / "node.key"}
        mqtt = {"user": "x", "password_file": folder / "password", "tls": tls}
        config = Config.model_validate({"mqtt": mqtt, "state_dir": folder / "state"})
        named = [line.split(":")[0] for line in exposed_files(config)]
        assert named == (["mqtt.password_file", "mqtt.tls.key"] if exposed else [])
        (folder / "state").chmod(0o755)
        assert ("state_dir" in " ".join(exposed_files(config))) == (folder_mode == 0o755)


def test_outside_the_unit_the_state_directory_is_closed_to_others(tmp_path: Path, demo_bundle: Path) -> None:
    with DaemonProcess(tmp_path, {}) as daemon:
        secret = tmp_path / "password"
        secret.write_text("x")
        secret.chmod(0o644)
        mqtt = f"{{port: 1, user: x, password_file: {secret}}}"
        daemon.config.write_text(
            f"node: pi\nstate_dir: deep/inside\nmqtt: {mqtt}\n"
            f"machines: {{fan: {{bundle: {demo_bundle}, microphone: 'name:x'}}}}\n"
        )
        daemon.start().ready()
        assert stat.S_IMODE((tmp_path / "deep" / "inside").stat().st_mode) == 0o700
        assert daemon.stop()[0] == 0
