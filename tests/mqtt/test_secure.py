"""TLS, passwords and ACLs: who is let in, and how the log names the cause when somebody is not."""

import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.config import MqttConfig, TlsConfig
from monitor.config.secrets import SOURCES
from monitor.errors import SinkError
from monitor.mqtt.credentials import password, tls_context
from monitor.mqtt.publisher import MqttPublisher
from monitor.mqtt.sink import MqttSink
from tests.broker import Broker, running_broker
from tests.certificates import Authority
from tests.conftest import ROOT, need
from tests.mqtt.anomalies import anomaly
from tests.waiting import wait_until

HOSTS_NAME = "localhost"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("elsewhere"), "stranger")


def tls_settings(authority: Authority, *, host: str = HOSTS_NAME, expired: bool = False, more: str = "") -> str:
    server = authority.sign("expired" if expired else f"server-{host}", host=host, expired=expired)
    files = f"cafile {authority.ca}\ncertfile {server.certificate}\nkeyfile {server.key}\n"
    return f"{files}allow_anonymous true\n{more}"


def refusal(broker: Broker, **settings: object) -> str:
    """What the publisher says that cannot connect."""
    config = MqttConfig.model_validate({"host": HOSTS_NAME, "port": broker.port, **settings})
    with pytest.raises(SinkError) as caught:
        MqttPublisher(config, node="hall-2").close()
    return str(caught.value).removeprefix(f"mqtt: {HOSTS_NAME}:{broker.port} ")


def assert_accepted(broker: Broker, **settings: object) -> None:
    config = MqttConfig.model_validate({"host": HOSTS_NAME, "port": broker.port, **settings})
    with MqttPublisher(config, node="hall-2") as publisher:
        publisher.publish_retained("fan/state", "{}")


def test_a_broker_with_our_authoritys_certificate_is_trusted(tmp_path: Path, authority: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority)) as broker:
        assert_accepted(broker, tls={"ca": authority.ca})


def test_another_authority_is_named(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority)) as broker:
        told = refusal(broker, tls={"ca": stranger.ca})
        assert told == "is not trusted: its certificate is signed by an authority that is not in mqtt.tls.ca"
        assert "is signed by an authority that is not" in refusal(broker, tls={})


def test_an_expired_certificate_is_named(tmp_path: Path, authority: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority, expired=True)) as broker:
        told = refusal(broker, tls={"ca": authority.ca})
    assert told == "is not trusted: its certificate has expired (or the clock of this computer is wrong)"


def test_another_host_is_named(tmp_path: Path, authority: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority, host="other.lan")) as broker:
        told = refusal(broker, tls={"ca": authority.ca})
    expected = f"is for another host (Hostname mismatch, certificate is not valid for '{HOSTS_NAME}')"
    assert told == f"is not trusted: its certificate {expected}"


def test_a_client_certificate_is_asked_for_and_accepted(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority, more="require_certificate true\n")) as broker:
        assert re.search(r"it (may require|requires) a client certificate", refusal(broker, tls={"ca": authority.ca}))
        mine, other = authority.sign("hall-2"), stranger.sign("hall-2")
        assert_accepted(broker, tls={"ca": authority.ca, "certificate": mine.certificate, "key": mine.key})
        foreign = {"ca": authority.ca, "certificate": other.certificate, "key": other.key}
        assert re.search("it (may have rejected|does not trust the authority of) our certificate", refusal(broker, tls=foreign))


def test_tls_against_plain_text_is_named_both_ways(tmp_path: Path, authority: Authority) -> None:
    with running_broker(tmp_path, tls_settings(authority)) as broker:
        assert refusal(broker) == "closed the connection before it answered: it may require TLS (mqtt.tls), or not be a broker"
    with running_broker(tmp_path) as broker:
        assert "speak TLS on this port" in refusal(broker, tls={"ca": authority.ca})


def test_files_that_are_no_certificates_are_named(tmp_path: Path, authority: Authority) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing to see here")
    with running_broker(tmp_path, tls_settings(authority)) as broker:
        assert f"mqtt.tls.ca: {nonsense} is not a readable PEM certificate" in refusal(broker, tls={"ca": nonsense})
        absent = refusal(broker, tls={"ca": tmp_path / "absent"})
        assert absent.endswith("absent is not a readable PEM certificate: No such file or directory")
        pair = {"ca": authority.ca, "certificate": nonsense, "key": nonsense}
        assert "are not a certificate and its key (PEM, no passphrase)" in refusal(broker, tls=pair)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker that knows the user hall-2 with the password `s3cret sauce`."""
    need(subprocess.run(["mosquitto_passwd", "-h"], capture_output=True, check=False).returncode in (0, 1), "mosquitto_passwd")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "hall-2", "s3cret sauce"], check=True, capture_output=True)
    with running_broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\n") as broker:
        yield broker


def test_a_password_comes_from_a_file(guarded: Broker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret sauce\n")
    assert_accepted(guarded, user="hall-2", password_file=secret)
    secret.write_text("wrong")
    assert refusal(guarded, user="hall-2", password_file=secret) == "refused the connection: Not authorized"
    assert refusal(guarded) == "refused the connection: Not authorized"
    assert refusal(guarded, user="hall-2", password_file=tmp_path / "no").endswith("no cannot be read: No such file or directory")
    endless = refusal(guarded, user="hall-2", password_file=Path("/dev/zero"))
    assert endless == "mqtt.password_file: /dev/zero cannot be read: not a regular file"


def test_a_password_comes_from_a_systemd_credential(guarded: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    settings = {"user": "hall-2", "password_credential": "mqtt-password"}
    monkeypatch.setattr("monitor.config.secrets.SOURCES", (str(tmp_path / "a"), str(tmp_path / "b")))
    told = refusal(guarded, **settings)
    sources = f"be a file in {tmp_path / 'a'} or {tmp_path / 'b'}, got neither"
    assert told.endswith(f"must be given by systemd (LoadCredential=mqtt-password:FILE) or {sources}")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mqtt-password").write_text("s3cret sauce\n")
    assert_accepted(guarded, **settings)  # as `sudo monitor mqtt-test`, outside of the service
    (tmp_path / "mqtt-password").write_text("s3cret sauce")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert password(MqttConfig.model_validate(settings)) == "s3cret sauce"
    assert_accepted(guarded, **settings)


def test_the_key_of_the_unit_is_found_outside_of_the_service(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.config.secrets.SOURCES", (str(tmp_path),))
    mine = authority.sign("hall-3")
    mine.key.rename(tmp_path / "mqtt-key")
    key = Path("/run/credentials/no-such-unit.service/mqtt-key")
    assert tls_context(TlsConfig(ca=authority.ca, certificate=mine.certificate, key=key)) is not None


def test_the_unit_loads_credentials_from_where_commands_look_for_them() -> None:
    unit = (ROOT / "systemd" / "stethos.service").read_text()
    for name in ("mqtt-password", "mqtt-key"):
        assert f"LoadCredential={name}:{SOURCES[0]}/{name}\n" in unit


def test_a_password_in_the_configuration_is_refused_with_the_way_to_do_it() -> None:
    with pytest.raises(ValueError, match=r"(?s)password must not be.*password_file: FILE.*password_credential: mqtt-password"):
        MqttConfig.model_validate({"user": "hall-2", "password": "s3cret sauce"})


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"host": "broker.lan"}, False),
        ({"host": "192.168.1.2"}, False),
        ({"host": "localhost"}, True),
        ({"host": "127.0.0.9"}, True),
        ({"host": "::1"}, True),
        ({"host": "broker.lan", "plain_text": "allowed"}, True),
        ({"host": "broker.lan", "tls": {}}, True),
    ],
)
def test_plain_text_leaves_this_computer_only_where_allowed_by_name(settings: dict[str, object], allowed: bool) -> None:
    if allowed:
        assert MqttConfig.model_validate(settings).port == (8883 if "tls" in settings else 1883)
    else:
        with pytest.raises(ValueError, match="set tls, or plain_text: allowed"):
            MqttConfig.model_validate(settings)


@contextmanager
def shipped_broker(folder: Path, authority: Authority) -> Iterator[Broker]:
    """configs/mosquitto as it is, but for its places and its port."""
    server = authority.sign("broker", host=HOSTS_NAME)
    (folder / "acl").write_text((ROOT / "configs" / "mosquitto" / "acl").read_text())
    for user in ("hall-2", "hall-3", "home-assistant", "telegraf", "ready"):
        create = [] if (folder / "passwords").exists() else ["-c"]
        command = ["mosquitto_passwd", *create, "-b", folder / "passwords", user, "secret"]
        subprocess.run(command, check=True, capture_output=True)
    (folder / "secret").write_text("secret")
    broker = Broker(folder)
    text = (ROOT / "configs" / "mosquitto" / "stethos.conf").read_text()
    for old, new in {
        "listener 8883": f"listener {broker.port} 127.0.0.1\nuser root",
        "/etc/mosquitto/certs/ca.crt": str(authority.ca),
        "/etc/mosquitto/certs/broker.crt": str(server.certificate),
        "/etc/mosquitto/certs/broker.key": str(server.key),
        "/etc/mosquitto/": f"{folder}/",
        "/var/lib/mosquitto/": f"{folder}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    broker.whole = text
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


Seen = Callable[[], list[str]]


@contextmanager
def hearing(user: str, broker: Broker, authority: Authority) -> Iterator[Seen]:
    """Somebody who asks for everything: the topics that it may hear, in the order heard."""
    path = broker.folder / f"heard-{user}"
    with path.open("w") as file:
        command = ["mosquitto_sub", *as_user(user, broker, authority), "-q", "1", "-t", "#", "-F", "%t"]
        process = subprocess.Popen(command, stdout=file)
    ready = ["mosquitto_pub", *as_user("ready", broker, authority), "-t", "stethos/ready/health", "-m", ""]
    try:
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0 and path.read_text() != "")
        yield lambda: [topic for topic in path.read_text().split() if topic != "stethos/ready/health"]
    finally:
        process.terminate()
        process.wait()


def as_user(user: str, broker: Broker, authority: Authority) -> list[str]:
    return ["-h", HOSTS_NAME, "-p", str(broker.port), "--cafile", str(authority.ca), "-u", user, "-P", "secret"]


def test_a_node_writes_its_own_topics_only(tmp_path: Path, authority: Authority) -> None:
    with shipped_broker(tmp_path, authority) as broker, hearing("home-assistant", broker, authority) as heard:
        mine = as_user("hall-2", broker, authority)
        for topic in (
            "stethos/hall-2/fan/state",
            "stethos/hall-3/fan/state",
            "stethos/hall-3/status",
            "stethos/hall-3/fan/set/disable",
            "elsewhere",
            "homeassistant/device/hall-2/fan/config",
            "homeassistant/device/hall-3/fan/config",
            "homeassistant/status",
            "stethos/hall-2/last",
        ):
            subprocess.run(["mosquitto_pub", *mine, "-q", "1", "-r", "-t", topic, "-m", "x"], check=True, capture_output=True)
        wait_until(lambda: "stethos/hall-2/last" in heard())
    assert set(heard()) == {"stethos/hall-2/fan/state", "homeassistant/device/hall-2/fan/config", "stethos/hall-2/last"}


def test_who_keeps_records_hears_what_telegraf_is_configured_for_and_nothing_else(tmp_path: Path, authority: Authority) -> None:
    text = (ROOT / "configs" / "telegraf" / "stethos.conf").read_text()
    wanted = [topic.replace("+", "hall-2") for topic in re.findall(r'^  topics = \["(.+)"\]$', text, re.MULTILINE)]
    with shipped_broker(tmp_path, authority) as broker, hearing("telegraf", broker, authority) as heard:
        mine = as_user("hall-2", broker, authority)
        others = ("snapshot", "clip/57e01217", "response", "set/ack", "anomaly")
        for topic in [*(f"stethos/hall-2/fan/{leaf}" for leaf in others), "stethos/hall-2/info", *wanted]:
            subprocess.run(["mosquitto_pub", *mine, "-q", "1", "-t", topic, "-m", "x"], check=True)
        wait_until(lambda: heard()[-1:] == wanted[-1:])
        theirs = as_user("telegraf", broker, authority)
        for topic in ("stethos/hall-2/fan/set/disable", "stethos/hall-2/fan/state"):
            subprocess.run(["mosquitto_pub", *theirs, "-q", "1", "-t", topic, "-m", "x"], check=True)
        subprocess.run(["mosquitto_pub", *mine, "-q", "1", "-t", wanted[-1], "-m", "x"], check=True)
        wait_until(lambda: heard().count(wanted[-1]) == 2)
    assert len(wanted) == 3
    assert heard() == [*wanted, wanted[-1]]


def test_the_sink_works_within_the_shipped_acl_and_hears_commands(tmp_path: Path, authority: Authority) -> None:
    commands: list[str] = []
    with shipped_broker(tmp_path, authority) as broker, hearing("home-assistant", broker, authority) as heard:
        settings = {"host": HOSTS_NAME, "port": broker.port, "tls": {"ca": authority.ca}}
        config = MqttConfig.model_validate({**settings, "user": "hall-2", "password_file": tmp_path / "secret"})
        sink = MqttSink(
            config, node="hall-2", state_dir=tmp_path, on_command=lambda _machine, command, *_: commands.append(command)
        )
        sink.start()
        for event in anomaly(1):
            sink.publish(event)
        sink.publish_retained("/homeassistant/device/hall-2/fan/config", "{}")
        wait_until(lambda: sink.counts.delivered == 3)
        command = ["mosquitto_pub", *as_user("home-assistant", broker, authority), "-t", "stethos/hall-2/fan/set/ack", "-m", "{}"]
        subprocess.run(command, check=True)
        wait_until(lambda: commands == ["ack"])
        assert sink.stop(5.0) == 0
        wait_until(lambda: heard()[-1] == "stethos/hall-2/status")
    assert heard().count("stethos/hall-2/fan/event") == 3
    assert "homeassistant/device/hall-2/fan/config" in heard()


def test_an_event_that_the_broker_refuses_is_parked_and_delivered_when_it_may_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite stethos/hall-2/status\n")
    with running_broker(tmp_path, f"allow_anonymous true\nacl_file {acl}\n") as broker:
        config = MqttConfig.model_validate({"port": broker.port, "protocol": "5", "reconnect_max_s": 1})
        sink = MqttSink(config, node="hall-2", state_dir=tmp_path)
        sink.start()
        for event in anomaly(1):
            sink.publish(event)
        sink.publish_retained("fan/state", "{}")
        wait_until(lambda: sink.counts.parked == 3)
        assert (sink.counts.queued, sink.counts.connections, sink.counts.last_error) == (3, 1, None)
        assert sink.counts.last_parked == f"end {anomaly(1)[0].id} of fan, seq 2: Not authorized"
        assert caplog.text.count("stethos/hall-2/fan/state rejected by") == 1
        start = f"start {anomaly(1)[0].id} of fan, seq 0 rejected by 127.0.0.1:{broker.port}: Not authorized; parked, to be"
        assert caplog.text.count(start) == 1
        broker.kill()
        acl.write_text("topic readwrite #\n")
        broker.start()
        wait_until(lambda: sink.counts.delivered == 3)
        assert sink.counts.parked == 0
        assert sink.counts.last_parked is None
        assert sink.stop(5.0) == 0


def test_a_renewed_password_is_used_for_the_next_attempt(guarded: Broker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    settings = {"port": guarded.port, "user": "hall-2", "password_file": secret, "reconnect_max_s": 1}
    sink = MqttSink(MqttConfig.model_validate(settings), node="hall-2", state_dir=tmp_path)
    sink.start()
    wait_until(lambda: sink.counts.last_error == "refused the connection: Not authorized")
    secret.write_text("s3cret sauce")
    wait_until(lambda: sink.counts.connected)
    sink.stop(5.0)


def test_the_log_never_holds_the_password(guarded: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "secret"
    secret.write_text("s3cret sauce")
    assert_accepted(guarded, user="hall-2", password_file=secret)
    secret.write_text("s3cret sauce, but wrong")
    refusal(guarded, user="hall-2", password_file=secret)
    assert caplog.text
    assert "s3cret" not in caplog.text
