"""`monitor notify-test` and the part of `check-config` about targets, with a real receiver."""

from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.cli.checking.check_config import check
from monitor.errors import UsageError
from tests.cli.tool import run
from tests.notify.receivers import Webhook, picture_of

SECRET = "s3cr3t-t0ken"
Configure = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path, demo_bundle: Path) -> Configure:
    def write(*targets: str) -> Path:
        path = tmp_path / "monitor.yaml"
        lines = "".join(f"  {target}\n" for target in targets)
        machines = f"machines:\n  fan: {{bundle: {demo_bundle}, name: Fan 3}}\n  pump: {{bundle: {demo_bundle}, channel: 2}}\n"
        path.write_text(f"node: pi\nstate_dir: {tmp_path}\nnotify:\n{lines}{machines}")
        return path

    return write


def test_every_target_has_one_line_and_a_failure_is_the_exit_status(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    with Webhook() as webhook:
        config = configure(f"good: {{url: '{webhook.url}'}}", "bad: {url: 'json://127.0.0.1:1/hook'}", "lost: {url_file: gone}")
        assert run("notify_check", "--config", config) == 1
        good, bad, lost = capsys.readouterr().out.splitlines()
        assert good.startswith("good: sent in ")
        assert bad == "bad: FAILED: A Connection error occurred sending JSON notification to 127.0.0.1."
        assert lost == f"lost: FAILED: notify.lost.url_file: {config.parent / 'gone'} cannot be read: No such file or directory"
        assert run("notify_check", "--config", config, "good", "--machine", "pump") == 0
    first, second = webhook.received
    assert (first["title"], second["title"]) == ("Fan 3: TEST", "pump: TEST")
    assert "This is a test. No machine has a fault." in first["message"]
    assert picture_of(first).startswith(b"\x89PNG")


def test_a_title_of_ones_own_is_marked_and_a_machine_that_is_not_the_targets_is_skipped(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    with Webhook() as webhook:
        target = f"shift: {{url: '{webhook.url}', machines: [pump], title: 'About {{name}}', picture: false}}"
        config = configure(target)
        assert run("notify_check", "--config", config) == 0
        assert webhook.titles == ["TEST: About pump"]
        assert webhook.received[0]["attachments"] == []
        assert run("notify_check", "--config", config, "--machine", "fan") == 0
        assert capsys.readouterr().out.splitlines()[-1] == "shift: skipped, it receives no messages about fan"
        with pytest.raises(UsageError, match="--machine must be one of pump for shift, got fan"):
            run("notify_check", "--config", config, "shift", "--machine", "fan")


def test_an_unknown_target_and_none_at_all_are_errors_of_usage(configure: Configure) -> None:
    with pytest.raises(UsageError, match="TARGET must be one of shift, got boss"):
        run("notify_check", "--config", configure("shift: {url: 'json://127.0.0.1:1/hook'}"), "boss")
    path = configure("{}")
    with pytest.raises(UsageError, match="the configuration has no target"):
        run("notify_check", "--config", path)


def test_check_config_names_every_wrong_target_and_no_secret(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unknown").write_text(f"nosuch://{SECRET}/x\n")
    (tmp_path / "plain").write_text(f"{SECRET}\n")
    (tmp_path / "good").write_text(f"tgram://123456789:{SECRET}abcdefghijklmnopqrstuvwxyz/42\n")
    with Webhook() as webhook:
        targets = (f"hook: {{url: '{webhook.url}'}}", *(f"{name}: {{url_file: {name}}}" for name in ("unknown", "plain", "good")))
        assert check(configure(*targets)) == 78
        assert webhook.n_requests == 0
    lines = [line for line in caplog.text.splitlines() if "notify." in line and "other users can read" not in line]
    assert len(lines) == 2
    assert "plain must be an Apprise URL such as mailtos://" in lines[0]
    assert "notify.unknown: Unparseable URL nosuch://<hidden>" in lines[1]
    assert SECRET not in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", ["tgram://{0}/1", "{{uri: 'tgram://{0}/1'}}", "{{url: 'tgram://{0}/1'}}", "{{url_credential: 'x://{0}'}}"]
)
def test_a_secret_in_the_wrong_place_is_not_shown(configure: Configure, caplog: pytest.LogCaptureFixture, wrong: str) -> None:
    assert check(configure(f"shift: {wrong.format(SECRET)}")) == 78
    assert "notify.shift" in caplog.text
    assert SECRET not in caplog.text
