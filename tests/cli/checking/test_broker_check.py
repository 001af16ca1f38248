"""`monitor mqtt-test` against good and bad brokers: the failed step is named with its cause."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.cli.checking.broker_check import try_broker
from monitor.config import MqttConfig
from tests.broker import Broker, deaf_broker, free_port, running_broker
from tests.certificates import Authority
from tests.mqtt.test_secure import as_user, shipped_broker, tls_settings
from tests.subscriber import Subscriber
from tests.waiting import wait_until

STEPS = ["DNS", "TCP", "TLS", "login", "publish", "read back", "last will"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as started:
        yield started


def tried(capsys: pytest.CaptureFixture[str], **settings: object) -> tuple[int, dict[str, str]]:
    """The exit status, and the result of each step."""
    capsys.readouterr()
    status = try_broker(MqttConfig.model_validate({"host": "localhost", **settings}), "hall-2")
    lines = capsys.readouterr().out.splitlines()[1:]
    return status, {line[2:12].strip(): line[12:] for line in lines}


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_every_step_succeeds_and_nothing_stays_retained(
    protocol: str, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    status, steps = tried(capsys, port=broker.port, protocol=protocol)
    assert status == 0
    assert list(steps) == STEPS
    assert all(verdict.startswith("ok ") for verdict in steps.values())
    with Subscriber(broker) as late:
        pass
    assert late.messages == []


def test_a_running_service_stays_connected(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    with Subscriber(broker, "-i", "stethos-hall-2") as service:
        assert tried(capsys, port=broker.port)[0] == 0
        wait_until(lambda: any(message.topic == "stethos/hall-2/mqtt-test" for message in service.messages))


def test_tls_passwords_and_the_acl_of_the_shipped_broker(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with shipped_broker(tmp_path, authority) as broker:
        assert as_user("hall-2", broker, authority)
        settings = {"port": broker.port, "tls": {"ca": authority.ca}, "password_file": tmp_path / "secret"}
        status, steps = tried(capsys, user="hall-2", **settings)
        assert (status, list(steps)) == (0, STEPS)
        assert "TLSv1." in steps["TLS"]
        status, steps = tried(capsys, user="hall-3", **settings)
        assert (status, list(steps)[-1]) == (1, "read back")
        assert "check in the broker's ACL that user hall-3 may write and read stethos/hall-2/mqtt-test" in steps["read back"]
        status, steps = tried(capsys, user="hall-3", protocol="5", **settings)
        assert (status, list(steps)[-1]) == (1, "publish")
        (tmp_path / "secret").write_text("wrong")
        status, steps = tried(capsys, user="hall-2", **settings)
        assert (status, list(steps)[-1]) == (1, "login")
        assert "Not authorized (are mqtt.user and the password right" in steps["login"]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_refused_subscription_is_named(protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with deaf_broker(tmp_path) as broker:
        status, steps = tried(capsys, port=broker.port, protocol=protocol)
    assert (status, list(steps)[-1]) == (1, "read back")
    assert "refused" in steps["read back"]
    assert "(check in the broker's ACL that an anonymous user may read stethos/hall-2/mqtt-test)" in steps["read back"]


LACKS = [
    ("retain_available false", "3.1.1", "last will", "does the broker support retained messages (mosquitto: retain_available)?"),
    ("retain_available false", "5", "login", "the broker does not support retained messages"),
    ("max_qos 0", "3.1.1", "publish", "does the broker support QoS 1 (mosquitto: max_qos)?"),
    ("max_qos 0", "5", "login", "the broker does not support QoS 1, with which events are sent (mosquitto: max_qos)"),
    ("max_packet_size 100", "5", "login", "the broker accepts packets of at most 100 bytes"),
]


@pytest.mark.parametrize(("setting", "protocol", "step", "cause"), LACKS)
def test_a_broker_that_lacks_something_is_explained(
    setting: str, protocol: str, step: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_broker(tmp_path, f"allow_anonymous true\n{setting}\n") as broker:
        status, steps = tried(capsys, port=broker.port, protocol=protocol)
    assert (status, list(steps)[-1]) == (1, step)
    assert cause in steps[step]


def test_a_password_file_of_the_unit_is_found_outside_of_the_service(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sudo monitor mqtt-test` does, to which systemd passes nothing."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("monitor.config.secrets.SOURCES", (str(tmp_path),))
    with shipped_broker(tmp_path, authority) as broker:
        assert as_user("hall-2", broker, authority)
        (tmp_path / "secret").rename(tmp_path / "mqtt-password")
        settings = {"port": broker.port, "tls": {"ca": authority.ca}, "password_credential": "mqtt-password"}
        assert tried(capsys, user="hall-2", **settings)[0] == 0


def test_an_unknown_host_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, steps = tried(capsys, host="nowhere.invalid", plain_text="allowed")
    assert (status, list(steps)) == (1, ["DNS"])
    assert "is mqtt.host right" in steps["DNS"]


def test_a_closed_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, steps = tried(capsys, port=free_port())
    assert (status, list(steps)[-1]) == (1, "TCP")
    assert "is the broker running" in steps["TCP"]


def test_a_server_that_is_no_broker_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.mqtt.client.CONNECT_TIMEOUT_S", 1.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        status, steps = tried(capsys, port=deaf.getsockname()[1])
    assert (status, list(steps)[-1]) == (1, "login")
    assert "did not answer as a broker" in steps["login"]


@pytest.mark.parametrize("wanting", ["authority", "certificate"])
def test_tls_that_fails_names_the_side(
    wanting: str, tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "require_certificate true\n" if wanting == "certificate" else ""
    with running_broker(tmp_path, tls_settings(authority, more=more)) as broker:
        tls = {"ca": authority.ca} if wanting == "certificate" else {}
        status, steps = tried(capsys, port=broker.port, tls=tls)
    assert (status, list(steps)[-1]) == (1, "TLS")
    expected = "it requires a client certificate" if wanting == "certificate" else "an authority that is not in mqtt.tls.ca"
    assert expected in steps["TLS"]
