"""Settings from YAML and environment; whatever is wrong is one line with the path to its key."""

import os
import time
from pathlib import Path

import pytest

from monitor.config import Config, MqttConfig, check_settings, load_config
from monitor.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "monitor.yaml"
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> Config:
    return load_config(write(folder, text), {})


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("node: Hall 2", "node must consist of a-z, 0-9, _ and -, at most 64, got 'Hall 2'"),
        ("node: [hall]", "node must be text, got a list"),
        ("nodes: hall", "nodes is not a setting, did you mean node?"),
        ("state_dir: {}", "state_dir must be a path, got a section of keys"),
        ("mqtt: here", "mqtt must be a section of keys, got here"),
        ("mqtt: {hots: here}", "mqtt.hots is not a setting, did you mean host?"),
        ("mqtt: {port: 70000}", "mqtt.port must be in 1..65535, got 70000"),
        ("mqtt: {port: true}", "mqtt.port must be a whole number, got true"),
        ("mqtt: {port: 1.5}", "mqtt.port must be a whole number, got 1.5"),
        ("mqtt: {reconnect_min_s: soon}", "mqtt.reconnect_min_s must be a number, got soon"),
        ("mqtt: {host: a b}", "mqtt.host must be a name or an address, without spaces, got 'a b'"),
        (
            "mqtt: {prefix: /a}",
            "mqtt.prefix must be words separated by /, without +, # and spaces, and not start with $, got '/a'",
        ),
        ("mqtt: {prefix: $SYS}", "mqtt.prefix must be words separated by /"),
        ("mqtt: {protocol: }", "mqtt.protocol must be '3.1.1' or '5', got nothing"),
        ("mqtt: {protocol: 4}", "mqtt.protocol must be '3.1.1' or '5', got 4"),
        ("mqtt: {client_id: a b}", "mqtt.client_id must be printable ASCII without spaces, 1 to 200 characters, got 'a b'"),
        ("mqtt: {tls: {ca: ''}}", "mqtt.tls.ca must be a path, got ''"),
        ("mqtt: {password_credential: a/b}", "mqtt.password_credential must be made of letters, digits, _, . and -"),
        ("mqtt: {keepalive_s: 1}", "mqtt.keepalive_s must be in 2..3600, got 1"),
        ("host: broker", "host is not a setting, did you mean mqtt.host?"),
        ("clips: {keepalive_s: 9}", "clips.keepalive_s is not a setting, did you mean mqtt.keepalive_s?"),
        ("bundle: b", "bundle is not a setting, did you mean machines.ID.bundle?"),
        ('mqtt: {user: "a\\nb"}', "mqtt.user must be one line of text, at most 200 characters, got 'a\\nb'"),
        ("mqtt: {keepalive: 30}", "mqtt.keepalive is not a setting, did you mean keepalive_s?"),
        ("mqtt: {reconnect_max_s: 0}", "mqtt.reconnect_max_s must be in 0.1..3600, got 0"),
        ("mqtt: {outbox_messages: 9}", "mqtt.outbox_messages must be in 10..1000000, got 9"),
        ("mqtt: {outbox_mb: .nan}", "mqtt.outbox_mb must be a number, got .nan"),
        ("alarm: {from: maybe}", "alarm.from must be 'warning' or 'alarm', got maybe"),
        ("alarm: {from_: alarm}", "alarm.from_ is not a setting, did you mean from?"),
        ("machines: fan", "machines must be a section of keys, got fan"),
        ("machines: {fan: }", "machines.fan must be a section of keys, got nothing"),
        ("machines: {fan: {}}", "machines.fan.bundle must be set"),
        ("machines: {Fan 1: {bundle: b}}", "machines.Fan 1 must consist of a-z, 0-9, _ and -, at most 64, got 'Fan 1'"),
        (
            "machines: {fan: {bundle: b, mic: default}}",
            "machines.fan.mic is not a setting, must be one of bundle, name, microphone,",
        ),
        ("machines: {fan: {bundle: b, channel: 0}}", "machines.fan.channel must be in 1..256, got 0"),
        ("machines: {fan: {bundle: b, channel: left}}", "machines.fan.channel must be a whole number, got left"),
        ("machines: {fan: {bundle: b, microphone_rate_hz: 44.1}}", "machines.fan.microphone_rate_hz must be a whole number"),
        ("machines: {fan: {bundle: b, enabled: perhaps}}", "machines.fan.enabled must be true or false, got perhaps"),
        (
            "machines: {fan: {bundle: b, idle: {means: off}}}",
            "machines.fan.idle.means must be 'idle', 'anomaly' or 'score', got off",
        ),
        (
            "machines: {fan: {bundle: b, idle: {below_dbfs: 20}}}",
            "machines.fan.idle.below_dbfs must be learned, null or a level in -200..0 dBFS, got 20",
        ),
        (
            "machines: {fan: {bundle: b, idle: {below_dbfs: .nan}}}",
            "machines.fan.idle.below_dbfs must be learned, null or a level in -200..0 dBFS, got .nan",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(yaml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, yaml)
    text = str(refused.value)
    assert text.startswith(f"{tmp_path}/monitor.yaml: {message}")
    assert "\n" not in text
    assert refused.value.exit_status == 78


@pytest.mark.parametrize(
    "selector",
    ["default", "name:USB PnP", "usb:0d8c:0014", "usb:0d8c:0014:A1B2", "usb-port:1-1.2", "usb-port:2-4.1.3", "index:3"],
)
def test_a_microphone_may_be_chosen_in_five_ways(selector: str, tmp_path: Path) -> None:
    config = load(tmp_path, f"machines: {{fan: {{bundle: b, microphone: '{selector}'}}}}")
    assert config.machines["fan"].microphone == selector


@pytest.mark.parametrize(
    "selector",
    ["", "3", "name:", "USB PnP", "usb:0d8c", "usb:0D8C:0014", "usb:0d8c:0014:", "usb-port:1", "usb-port:1-1.", "index:-1"],
)
def test_any_other_selector_is_refused_with_the_forms_there_are(selector: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"machines\.fan\.microphone must be default, name:TEXT, usb:VENDOR:PRODUCT"):
        load(tmp_path, f"machines: {{fan: {{bundle: b, microphone: '{selector}'}}}}")


@pytest.mark.parametrize(
    ("written", "node"),
    [("007", "007"), ("on", "on"), ("no", "no"), ("1e3", "1e3"), ("2026-11-21", "2026-11-21"), ("0x1f", "0x1f")],
)
def test_text_is_what_was_written_whatever_yaml_would_make_of_it(written: str, node: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"node: {written}").node == node


@pytest.mark.parametrize(("written", "enabled"), [("on", True), ("yes", True), ("true", True), ("off", False), ("no", False)])
def test_a_switch_may_be_written_in_any_of_yamls_ways(written: str, enabled: bool, tmp_path: Path) -> None:
    assert load(tmp_path, f"machines: {{fan: {{bundle: b, enabled: {written}}}}}").machines["fan"].enabled is enabled


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("mqtt:\n\tport: 1883\n", "is not YAML: line 2, column 1: must be indented with spaces, got a tab"),
        ("node: a\nnode: b\n", "is not YAML: line 2, column 1: duplicate key node"),
        ("machines:\n  fan: {bundle: a}\n  fan: {bundle: b}\n", "is not YAML: line 3, column 3: duplicate key fan"),
        ("mqtt: {port: 1883\n", "is not YAML: line 2, column 1: "),
        (
            "node: !!python/object/apply:os.getcwd []\n",
            "is not YAML: line 1, column 7: tags are not supported, got !!python/object",
        ),
        ("private: !!bool zzz\n", "is not YAML: line 1, column 10: tags are not supported, got !!bool"),
        ("node: !!int ''\n", "is not YAML: line 1, column 7: tags are not supported, got !!int"),
        ("node: ! a\n", "is not YAML: line 1, column 7: tags are not supported, got !"),
        ("- node\n", "must be a mapping of keys, got a list"),
        ('node: "a\\0b"\n', "is not YAML: line 1, column 7: text must be valid Unicode without NUL"),
        ('state_dir: "\\ud800"\n', "is not YAML: line 1, column 12: text must be valid Unicode without NUL"),
        ('node: "\\UFFFFFFFF"\n', "is not YAML: "),
        ("node: [" + "[" * 100 + "\n", "is not YAML: line 1, column 56: values are nested more than 50 deep"),
        ("machines: &all {fan: *all}\n", "is not YAML: line 1, column 22: alias all refers to a value that contains it"),
        ("? {a: b}\n: c\n", "is not YAML: line 1, column 3: found unhashable key"),
        ("~: a\n", "every key must be text, got None"),
        ('"a\\nb\\e[2J": 1\n', "'a\\nb\\x1b[2J' is not a setting, must be one of node,"),
        (f"{'x' * 500}: 1\n", f"{'x' * 79}… is not a setting, must be one of node,"),
        ('"[key]": 1\n', "[key] is not a setting, must be one of node,"),
    ],
)
def test_what_is_no_proper_yaml_is_one_line_with_its_place(yaml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, yaml)
    assert str(refused.value).startswith(f"{tmp_path}/monitor.yaml: {message}")
    assert "\n" not in str(refused.value)


def test_keys_merged_from_earlier_ones_are_no_duplicates(tmp_path: Path) -> None:
    config = load(
        tmp_path, "machines:\n  a: &a {bundle: b, channel: 1}\n  c: {<<: *a, channel: 2}\n  d: {<<: [*a], channel: 3}\n"
    )
    assert [machine.channel for machine in config.machines.values()] == [1, 2, 3]


@pytest.mark.parametrize("many", ["[{}]", "{{<<: [{}]}}", "{{a: [{}]}}"], ids=["list", "merge", "mapping"])
def test_aliases_that_multiply_are_refused_at_once(many: str, tmp_path: Path) -> None:
    lines = ["a0: &a0 {k: v}", *(f"a{i}: &a{i} {many.format(', '.join([f'*a{i - 1}'] * 10))}" for i in range(1, 30))]
    began_s = time.process_time()
    with pytest.raises(ConfigError, match="the file has more than 50000 values, aliases included"):
        load(tmp_path, "\n".join([*lines, "machines: {fan: {bundle: b, idle: {below_dbfs: *a29}}}"]))
    assert time.process_time() - began_s < 5.0


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "fifo", "."])
def test_a_file_that_is_none_is_refused_at_once(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match=r"cannot be read: [Nn]ot a regular file"):
        load_config(tmp_path / path, {})


def test_a_link_to_the_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(write(tmp_path, "node: hall"))
    assert load_config(tmp_path / "link.yaml", {}).node == "hall"


def test_a_file_that_is_too_large_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"cannot be read: [Ll]arger than"):
        load_config(path, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        load_config(tmp_path / "nowhere.yaml", {})


@pytest.mark.parametrize("yaml", ["", "# nothing\n", "node: replay\nmqtt:\nmachines:\n"])
def test_an_empty_section_is_one_with_defaults(yaml: str, tmp_path: Path) -> None:
    environment = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}
    assert load_config(write(tmp_path, yaml), environment) == load_config(None, environment)


def test_only_an_explicit_null_means_no_broker(tmp_path: Path) -> None:
    assert load(tmp_path, "mqtt: null").mqtt is None
    assert load(tmp_path, "mqtt: ~").mqtt is None
    assert load(tmp_path, "mqtt:\n").mqtt == MqttConfig()
    assert load_config(None, {"STETHOS_MQTT": "null"}).mqtt is None
    assert load_config(write(tmp_path, "mqtt: null"), {"STETHOS_MQTT__PORT": "1884"}).mqtt == MqttConfig(port=1884)
    with pytest.raises(ConfigError, match="mqtt must be"):
        load(tmp_path, "mqtt: none")


def test_one_microphone_may_serve_several_machines_that_differ(tmp_path: Path) -> None:
    text = "machines: {left: {bundle: b, channel: 1}, right: {bundle: b, channel: 2}, also-right: {bundle: c, channel: 2}}"
    assert list(load(tmp_path, text).machines) == ["left", "right", "also-right"]


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        (
            "{fan: {bundle: b, channel: 1}, pump: {bundle: ./b, channel: 1}}",
            "machines.pump must differ from machines.fan in microphone, channel or bundle",
        ),
        (
            "{fan: {bundle: b}, pump: {bundle: c, microphone_rate_hz: 48000}}",
            "machines.pump.microphone_rate_hz must be left out as in machines.fan, which has the same microphone, got 48000",
        ),
        (
            "{fan: {bundle: b, microphone_rate_hz: 44100}, pump: {bundle: c}}",
            "machines.pump.microphone_rate_hz must be 44100 as in machines.fan, which has the same microphone, got none",
        ),
    ],
)
def test_machines_that_cannot_both_be_meant_are_refused(machines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, f"machines: {machines}")
    assert str(refused.value) == f"{tmp_path}/monitor.yaml: {message}"


def test_several_problems_are_a_line_each(tmp_path: Path) -> None:
    path = write(tmp_path, "node: Hall 2\nmqtt: {port: 0, hots: a}\nmachines: {fan: {channel: 0}}\n")
    config, wrong = check_settings(path, {})
    assert config is None
    assert [line.removeprefix(f"{path}: ").split()[0] for line in wrong] == [
        "node",
        "mqtt.port",
        "mqtt.hots",
        "machines.fan.bundle",
        "machines.fan.channel",
    ]
    with pytest.raises(ConfigError, match=r"at most 64, got 'Hall 2' \(and 4 more: monitor check-config\)$"):
        load_config(path, {})


@pytest.mark.parametrize(
    "yaml",
    [
        "mqtt: {passwort: hunter2}",
        "mqtt: {password: hunter2}",
        "mqtt: {password_credential: 'hunter2 !'}",
        "hunter2: [",
        "a: {'hunter2",
    ],
)
def test_a_password_in_the_wrong_place_is_not_repeated(yaml: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, yaml)
    assert "hunter2" not in str(refused.value)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "node: hall\nmqtt: {port: 1000}\nmachines: {fan: {bundle: b}}\n")
    environment = {"STETHOS_MQTT__PORT": "2000", "STETHOS_MACHINES__FAN__CHANNEL": "2", "STETHOS_MACHINES__FAN__ENABLED": "off"}
    config = load_config(path, environment)
    assert (config.node, config.mqtt) == ("hall", MqttConfig(port=2000))
    assert (config.machines["fan"].channel, config.machines["fan"].enabled) == (2, False)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("STETHOS_MQTT__PORT", "many", "STETHOS_MQTT__PORT: mqtt.port must be a whole number, got many"),
        ("STETHOS_MQTT__PASSWORD", "geheim", "STETHOS_MQTT__PASSWORD: mqtt: password must not be in the configuration"),
        ("STETHOS_MQTT_HOST", "h", "STETHOS_MQTT_HOST: mqtt_host is not a setting, did you mean mqtt.host?"),
        ("STETHOS_MQTT__USER", "\udc80", "STETHOS_MQTT__USER: mqtt.user must be text, got '\\udc80'"),
        ("STETHOS_", "a", "STETHOS_:  is not a setting, must be one of node,"),
        ("STETHOS_MACHINE", "fan", "STETHOS_MACHINE: machine is not a setting, did you mean machines?"),
        ("STETHOS_MACHINES__FAN__CHANNEL", "0", "STETHOS_MACHINES__FAN__CHANNEL: machines.fan.channel must be in 1..256, got 0"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(tmp_path, "machines: {fan: {bundle: b}}"), {variable: value})
    assert str(refused.value).startswith(message)
    assert value not in str(refused.value) or "PASSWORD" not in variable


def test_a_relative_path_counts_from_the_file_and_an_absolute_one_stays(tmp_path: Path) -> None:
    config = load(tmp_path, "state_dir: state\nmachines: {fan: {bundle: ../b}, pump: {bundle: /srv/b}}\n")
    assert config.state_dir == tmp_path / "state"
    assert load(tmp_path, "state_dir: ~/state").state_dir == Path.home() / "state"
    assert config.machines["fan"].bundle == tmp_path / "../b"
    assert config.machines["pump"].bundle == Path("/srv/b")


def test_directories_are_systemds_then_the_persons_own(tmp_path: Path) -> None:
    service = load_config(None, {"STATE_DIRECTORY": "/var/lib/x", "RUNTIME_DIRECTORY": "/run/x", "XDG_STATE_HOME": "/home/p/s"})
    assert (service.state_dir, service.runtime_dir) == (Path("/var/lib/x"), Path("/run/x"))
    assert load_config(None, {"XDG_STATE_HOME": "/home/p/s"}).state_dir == Path("/home/p/s/stethos")
    given = load_config(write(tmp_path, "state_dir: /a\nruntime_dir: /b\n"), {"STATE_DIRECTORY": "/x", "RUNTIME_DIRECTORY": "/x"})
    assert (given.state_dir, given.runtime_dir) == (Path("/a"), Path("/b"))


def test_the_severity_from_which_it_rings_is_set_by_file_or_environment(tmp_path: Path) -> None:
    assert load(tmp_path, "node: a").alarm.from_ == "alarm"
    assert load(tmp_path, "alarm: {from: warning}").alarm.from_ == "warning"
    assert load_config(None, {"STETHOS_ALARM__FROM": "warning"}).alarm.from_ == "warning"


@pytest.mark.parametrize("path", [f"/{'long' * 80}", f"models/{'long' * 80}"])
def test_a_bundle_that_cannot_be_looked_up_does_not_stop_the_others(tmp_path: Path, path: str) -> None:
    """A folder of another user fails in the same way, but not for root, as whom the tests may run."""
    config = load(tmp_path, f"machines: {{fan: {{bundle: {path}, microphone: default}}}}")
    assert config.machines["fan"].bundle == tmp_path / path
