"""`monitor setup` in a real terminal, with a virtual microphone and real brokers: what it asks, writes and leaves alone."""

import difflib
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.config import load_config
from tests.broker import Broker, free_port, running_broker
from tests.certificates import Authority
from tests.conftest import ROOT
from tests.rig import VirtualMicrophone
from tests.terminal import Terminal

SHIPPED = ROOT / "configs" / "monitor.yaml"
PASSWORD = "s3cr3t-passw0rd"
Setup = Callable[..., Terminal]


@pytest.fixture
def setup(rig: VirtualMicrophone, tmp_path: Path) -> Iterator[Setup]:
    """Start `monitor setup` for a configuration in an empty folder, while a sine is played."""
    sine = 0.3 * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(48_000 * 60))
    soundfile.write(tmp_path / "sine.wav", sine, 48_000, subtype="PCM_16")
    rig.play(tmp_path / "sine.wav")
    environment = {**rig.environment, "STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    started: list[Terminal] = []

    def start(*words: object) -> Terminal:
        one = Terminal("--config", tmp_path / "etc" / "monitor.yaml", "setup", *words, environment=environment)
        started.append(one)
        return one

    yield start
    for one in started:
        one.__exit__(None, None, None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "monitor.yaml"


def changed_lines(before: str, after: str) -> list[str]:
    return [line[2:] for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]


def guarded_broker(folder: Path) -> Iterator[Broker]:
    (folder / "broker").mkdir()
    passwords = folder / "broker" / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "stethos", PASSWORD], check=True)
    with running_broker(folder / "broker", f"allow_anonymous false\npassword_file {passwords}\n") as broker:
        yield broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    yield from guarded_broker(tmp_path)


def answer_microphone(terminal: Terminal) -> None:
    terminal.expect(r"\d  mic")
    terminal.answer("Microphone, by number or selector", "name:mic")
    terminal.expect("Listening for")
    terminal.answer("Go on", "g")


def finish(terminal: Terminal, *, prefix: str = "none") -> None:
    """Answer the questions after those about the broker, without a password of the page and without learning."""
    terminal.answer("Its discovery prefix", prefix)
    terminal.answer("Password, at least", "")
    terminal.answer("Learn it now", "n")
    assert terminal.wait() == 0, terminal.text


def test_from_nothing_to_settings_that_work(setup: Setup, config: Path, broker: Broker) -> None:
    terminal = setup("--no-service", "--node", "hall-2")
    terminal.answer(r"Name of the machine \[fan\]", "Fan 3, hall 2")
    terminal.expect("fan-3-hall-2: Fan 3, hall 2")
    answer_microphone(terminal)
    terminal.answer("Its address, as HOST", f"127.0.0.1:{broker.port}")
    terminal.answer(r"User, or none \[none\]", "stethos")
    terminal.answer("Password of stethos", PASSWORD)
    terminal.expect("last will ok")
    terminal.answer(r"Its discovery prefix, or none \[homeassistant\]")
    terminal.answer("Password, at least 8 characters")
    terminal.expect(f"{config} is written")
    terminal.answer(r"Learn it now \[Y/n\]", "n")
    assert terminal.wait() == 0, terminal.text
    assert PASSWORD not in terminal.text
    settings = load_config(config, {})
    assert settings.node == "hall-2"
    assert settings.mqtt is not None
    assert (settings.mqtt.port, settings.mqtt.user) == (broker.port, "stethos")
    assert (settings.machines["fan-3-hall-2"].name, settings.machines["fan-3-hall-2"].microphone) == ("Fan 3, hall 2", "name:mic")
    secret = config.parent / "mqtt-password"
    assert secret.read_text() == f"{PASSWORD}\n"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o644
    assert sorted(path.name for path in config.parent.iterdir()) == ["monitor.yaml", "mqtt-password"]


def test_only_changed_lines_differ_and_the_comments_stay(setup: Setup, config: Path, tmp_path: Path) -> None:
    terminal = setup("--yes", "--no-service", "--machine", "pump", "--microphone", "name:mic", "--broker", "none", "--node", "pi")
    assert terminal.wait() == 0, terminal.text
    before, after = SHIPPED.read_text(), config.read_text()
    assert "learned" in terminal.text or "To learn pump: " in terminal.text
    lines = [line.strip() for line in changed_lines(before, after)]
    assert lines[0].startswith("node: pi                   # name of this computer")
    assert lines[1].startswith("mqtt: null                 # the broker;")
    assert [line for line in lines if not line.startswith("# ")][2:] == [
        "pump:                    # a machine's id in topics and events: a-z, 0-9, _ and -",
        "microphone: name:mic",
    ]
    assert len(before.splitlines()) == len(after.splitlines())


def test_a_second_run_offers_what_is_set_and_changes_only_what_is_asked(setup: Setup, config: Path) -> None:
    first = setup("--yes", "--no-service", "--machine", "fan", "--microphone", "name:mic", "--broker", "none", "--node", "pi")
    assert first.wait() == 0, first.text
    before = config.read_text()
    second = setup("--no-service")
    second.answer(r"Name of the machine \[fan\]", "")
    second.answer(r"by number or selector \[name:mic\]", "")
    second.answer("Go on", "")
    second.answer(r"or none \[none\]", "")
    second.answer("Password, at least 8 characters")
    second.expect(f"{config} is as it was")
    second.answer("Learn it now", "n")
    assert second.wait() == 0
    assert config.read_text() == before
    third = setup("--yes", "--no-service", "--microphone", "default")
    assert third.wait() == 0, third.text
    assert [line.strip() for line in changed_lines(before, config.read_text())] == ["microphone: default"]
    assert config.with_name("monitor.yaml.bak").read_text() == before


def test_another_machine_is_added(setup: Setup, config: Path) -> None:
    config.parent.mkdir()
    config.write_text("node: pi  # ours\nmqtt: null\nmachines:\n  fan:  # the first\n    bundle: models/demo-fan\n")
    terminal = setup("--yes", "--no-service", "--machine", "pump", "--name", "Pump 1", "--microphone", "name:mic")
    assert terminal.wait() == 0, terminal.text
    added = ["  pump:", "    bundle: models/demo-fan", "    name: Pump 1", "    microphone: name:mic"]
    assert config.read_text().splitlines()[-4:] == added
    assert "node: pi  # ours" in config.read_text()


def test_a_bundle_that_hears_higher_is_chosen_by_an_option(setup: Setup, config: Path) -> None:
    options = ("--yes", "--no-service", "--broker", "none", "--microphone", "name:mic")
    terminal = setup(*options, "--bundle", "models/base-wide")
    assert terminal.wait() == 0, terminal.text
    assert changed_lines(SHIPPED.read_text(), config.read_text())[-2:] == [
        "    bundle: models/base-wide",
        "    microphone: name:mic",
    ]


def test_a_wrong_password_and_a_missing_broker_are_explained_and_can_be_corrected(
    setup: Setup, config: Path, broker: Broker
) -> None:
    terminal = setup("--no-service", "--machine", "fan", "--microphone", "name:mic")
    terminal.answer("Its address, as HOST", f"127.0.0.1:{free_port()}")
    terminal.answer("User", "")
    terminal.expect("connection refused at port")
    terminal.answer("Change the answers", "c")
    terminal.answer("Its address, as HOST", f"127.0.0.1:{broker.port}")
    terminal.answer(r"TLS: .* or none \[none\]", "")
    terminal.answer("User", "stethos")
    terminal.answer("Password", "wrong")
    terminal.expect("are mqtt.user and the password right")
    terminal.answer("Change the answers", "")
    terminal.answer(rf"Its address, as HOST\S+ or none \[127.0.0.1:{broker.port}\]", "")
    terminal.answer("TLS: ", "")
    terminal.answer(r"User, or none \[stethos\]", "")
    terminal.answer("Password", PASSWORD)
    finish(terminal)
    settings = load_config(config, {})
    assert not settings.home_assistant.enabled
    again = setup("--no-service", "--yes")  # with the password that is stored
    assert again.wait() == 0, again.text
    assert "last will ok" in again.text


def test_a_broker_that_fails_changes_nothing_where_nobody_can_be_asked(setup: Setup, config: Path, broker: Broker) -> None:
    secret = config.parent.parent / "wrong"
    secret.write_text("wrong\n")
    words = ("--yes", "--no-service", "--microphone", "name:mic", "--broker", f"127.0.0.1:{broker.port}")
    terminal = setup(*words, "--user", "stethos", "--password-file", secret)
    assert terminal.wait() == 1
    assert terminal.text.splitlines()[-1] == "monitor: error: the broker does not work, see above; nothing was changed"
    assert list(config.parent.iterdir()) == []


def test_plain_text_to_another_computer_is_explained_and_must_be_allowed(setup: Setup, config: Path) -> None:
    terminal = setup("--no-service", "--machine", "fan", "--microphone", "name:mic")
    terminal.answer("Its address, as HOST", "nowhere.invalid")
    terminal.answer(r"TLS: .* or none \[none\]", "")
    terminal.expect("anybody on the network can read the messages and the password")
    terminal.answer(r"Allow it \[y/N\]", "")
    terminal.answer("Its address, as HOST", "nowhere.invalid")
    terminal.answer("TLS: ", "")
    terminal.answer("Allow it", "y")
    terminal.answer("User", "")
    terminal.expect("is mqtt.host right")
    terminal.answer("Change the answers", "k")
    finish(terminal, prefix="")
    settings = load_config(config, {})
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.plain_text) == ("nowhere.invalid", "allowed")
    refused = setup("--yes", "--no-service", "--broker", "other.invalid", "--microphone", "name:mic")
    assert refused.wait() == 2
    assert "other.invalid is another computer: give --plain-text, or for TLS --ca FILE or --ca system" in refused.text


def test_tls_is_asked_for_tried_and_changed(setup: Setup, config: Path, tmp_path: Path) -> None:
    ours, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "stranger")
    server = ours.sign("localhost", host="localhost")
    files = f"cafile {ours.ca}\ncertfile {server.certificate}\nkeyfile {server.key}\nallow_anonymous true\n"
    (tmp_path / "broker").mkdir()
    with running_broker(tmp_path / "broker", files) as broker:
        here = ("--broker", f"localhost:{broker.port}", "--microphone", "name:mic")
        terminal = setup("--no-service", "--machine", "fan", *here)
        terminal.answer("User", "")
        terminal.answer("Change the answers", "c")
        terminal.answer(rf"Its address, as HOST\S+ or none \[localhost:{broker.port}\]", "")
        terminal.answer("TLS: ", str(server.key))
        terminal.expect("localhost.key holds no certificate in PEM format")
        terminal.answer("TLS: ", "/nowhere.pem")
        terminal.expect("/nowhere.pem: cannot be read: No such file")
        terminal.answer("TLS: ", str(ours.ca))
        terminal.answer("User", "")
        terminal.expect("last will ok")
        finish(terminal)
        settings = load_config(config, {})
        assert settings.mqtt is not None and settings.mqtt.tls is not None
        assert (settings.mqtt.port, settings.mqtt.tls.ca) == (broker.port, ours.ca)
        assert setup("--no-service", "--yes").wait() == 0  # with what is set
        config.write_text(config.read_text().replace(f"port: {broker.port}", "port: 8883"))
        plain = setup("--no-service", "--yes", "--broker", "localhost", "--ca", "none", "--microphone", "name:mic")
        assert (plain.wait(), "localhost:1883" in plain.text) == (1, True), plain.text
        secure = setup("--no-service", "--yes", "--ca", "~nobody-here/ca.pem", "--microphone", "name:mic")
        assert (secure.wait(), "there is no such user" in secure.text) == (2, True), secure.text
        config.write_text(config.read_text().replace("port: 8883", f"port: {broker.port}"))
        other = setup("--no-service", "--yes", *here, "--ca", stranger.ca)
        assert other.wait() == 1, other.text
        assert "signed by an authority that is not in" in other.text
        wrong = setup("--no-service", "--yes", "--broker", "broker.invalid", "--ca", ours.ca, "--microphone", "name:mic")
        assert wrong.wait() == 1, wrong.text
        assert "broker.invalid:8883" in wrong.text
        config.unlink()
        first = setup(
            "--no-service", "--yes", *here, "--ca", ours.ca
        )  # on this computer TLS is not asked about, but may be given
        assert first.wait() == 0, first.text


def test_another_user_does_not_get_the_password_of_the_one_before(setup: Setup, config: Path, broker: Broker) -> None:
    secret = config.parent.parent / "secret"
    secret.write_text(PASSWORD)
    words = ("--yes", "--no-service", "--microphone", "name:mic", "--broker", f"127.0.0.1:{broker.port}")
    assert setup(*words, "--user", "stethos", "--password-file", secret).wait() == 0
    refused = setup(*words, "--user", "bob")
    assert refused.wait() == 1, refused.text
    terminal = setup("--no-service", "--machine", "fan", *words[2:], "--user", "bob")
    terminal.answer(r"Password of bob \(Enter: none\)", "")
    terminal.answer("Change the answers", "k")
    finish(terminal)
    settings = load_config(config, {})
    assert settings.mqtt is not None
    assert (settings.mqtt.user, settings.mqtt.password_file, settings.mqtt.password_credential) == ("bob", None, None)


def test_with_yes_the_answers_of_an_interrupted_setup_do_not_count(setup: Setup, config: Path) -> None:
    terminal = setup("--no-service")
    terminal.answer("Name of the machine", "Fan 9")
    terminal.expect("by number or selector")
    terminal.kill()
    last = setup("--yes", "--no-service", "--microphone", "name:mic", "--broker", "none")
    assert last.wait() == 0, last.text
    assert [*load_config(config, {}).machines] == ["fan"]


def test_the_address_of_a_broker_may_be_that_of_ip_version_6(setup: Setup, config: Path, broker: Broker) -> None:
    first = setup("--yes", "--no-service", "--microphone", "name:mic", "--broker", "[::1]:1")
    assert (first.wait(), "[::1]:1" in first.text) == (1, True), first.text
    config.write_text(f"node: pi\nmqtt: {{host: '::1', port: {free_port()}}}\nmachines: {{fan: {{bundle: models/base}}}}\n")
    again = setup("--yes", "--no-service", "--microphone", "name:mic")
    assert again.wait() == 1, again.text
    assert "the broker does not work" in again.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--bundle", "models/none"],
            "--bundle models/none: no such folder; shipped are models/base, models/base-wide, ",
        ),
        (["--node", "Bad Node"], "--node must be of a-z, 0-9, _ and -, such as bad-node, got 'Bad Node'"),
        (["--machine", "äöü"], "must contain letters a-z or digits, got 'äöü'"),
        (["--learn", "soon"], "or no"),
    ],
)
def test_a_wrong_option_changes_nothing(setup: Setup, config: Path, options: list[str], message: str) -> None:
    terminal = setup("--yes", "--no-service", "--broker", "none", *options)
    assert terminal.wait() in (1, 2), terminal.text
    assert message in terminal.text
    assert not config.exists()


def test_a_microphone_that_is_named_may_come_later(setup: Setup, config: Path) -> None:
    terminal = setup("--yes", "--no-service", "--broker", "none", "--microphone", "usb:0d8c:0014")
    assert terminal.wait() == 0, terminal.text
    assert "Warning: microphone usb:0d8c:0014: absent: not plugged in" in terminal.text
    assert load_config(config, {}).machines["fan"].microphone == "usb:0d8c:0014"
    again = setup("--yes", "--no-service", "--node", "hall")
    assert again.wait() == 0, again.text
    assert load_config(config, {}).node == "hall"


def test_a_password_of_the_page_says_where_it_is(setup: Setup, config: Path, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("short")
    words = ("--yes", "--no-service", "--microphone", "name:mic", "--broker", "none", "--page-password-file", tmp_path / "page")
    refused = setup(*words)
    assert refused.wait() == 2, refused.text
    assert f"--page-password-file {tmp_path}/page: a password must have 8 to 200 characters, got 5" in refused.text
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"node: pi\nmqtt: null\nweb: {{state_dir: {tmp_path}/web}}\nmachines: {{fan: {{bundle: models/base}}}}\n")
    (tmp_path / "page").write_text("long enough")
    assert (terminal := setup(*words)).wait() == 0, terminal.text
    assert f"The page's password is set, in {tmp_path}/web/passwords.json." in terminal.text.replace("\r\n", "")


QUESTIONS = (
    "Name of the machine",
    "by number or selector",
    "Go on",
    "as HOST",
    "User",
    "Password of",
    "discovery prefix",
    "at least 8",
)
STOPS = ("ctrl-c", "kill", "hang up", "ctrl-d")


def test_interrupted_at_every_question_it_continues_with_the_answers_so_far(setup: Setup, config: Path, broker: Broker) -> None:
    answers = ("Fan 7", "name:mic", "g", f"127.0.0.1:{broker.port}", "stethos", PASSWORD, "ha", "")
    for n, question in enumerate(QUESTIONS):
        terminal = setup("--no-service")
        for text, answer in zip(QUESTIONS[:n], ("", "", "g", "", "", PASSWORD, "", ""), strict=False):
            terminal.answer(text, answer)
        terminal.expect(question)
        assert n == 0 or "An earlier setup was interrupted" in terminal.text
        if n and n - 1 not in (2, 5, 7):  # the answer of the run before is offered
            assert f"[{answers[n - 1]}]" in terminal.text
        stop = STOPS[n % len(STOPS)] if n not in (1, 3, 4) else "kill"
        terminal.press(answers[n] + "\n")  # this question is answered; the next one is interrupted
        if n + 1 < len(QUESTIONS):
            terminal.expect(QUESTIONS[n + 1], within_s=60)
        else:
            terminal.expect("Learn it now")
        if stop == "kill":
            terminal.kill()
        elif stop == "hang up":
            terminal.hang_up()
        else:
            assert terminal.interrupt("\x03" if stop == "ctrl-c" else "\x04") == 130, terminal.text
        for path in config.parent.rglob("*setup*"):
            assert PASSWORD not in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert config.exists() == (n + 1 == len(QUESTIONS))
    last = setup("--no-service", "--yes")
    assert last.wait() == 0, last.text
    settings = load_config(config, {})
    assert settings.mqtt is not None
    assert (settings.mqtt.user, settings.home_assistant.discovery_prefix) == ("stethos", "ha")
    assert settings.machines["fan-7"].name == "Fan 7"
    assert not list(config.parent.glob(".*"))


def test_without_a_terminal_and_yes_it_is_one_line(tmp_path: Path) -> None:
    import sys

    command = [sys.executable, "-m", "monitor.cli.main", "--config", str(tmp_path / "monitor.yaml"), "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "run it in a terminal, or give --yes" in done.stderr


def test_settings_that_are_refused_change_nothing(setup: Setup, config: Path) -> None:
    config.parent.mkdir()
    text = "node: pi\nmqtt: null\nmachines:\n  fan: {bundle: gone, microphone: default}\n"
    config.write_text(text)
    terminal = setup("--yes", "--no-service", "--microphone", "name:mic")
    assert terminal.wait() == 78
    assert "machines.fan.bundle" in terminal.text
    assert "the settings were refused" in terminal.text
    assert config.read_text() == text
    assert [path.name for path in config.parent.iterdir()] == ["monitor.yaml"]
