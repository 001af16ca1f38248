"""Commands: accepted or refused with a reason, and without effects beyond the contract."""

import gc
import json
import logging
import os
import random
import threading
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.clock import SteadyClock
from monitor.config import Config
from monitor.config.fields import MAX_SNOOZE_S
from monitor.daemon.alarms import Alarms
from monitor.daemon.control.commands import MAX_BYTES, MAX_WAITING, Arrived, Commands
from monitor.daemon.state_file import AlarmState, ServiceState
from monitor.mqtt.messages import Command, ResponseMessage

N_HOSTILE = 10_000 if os.environ.get("LONG_TESTS") else 500
NOW = 1_800_000_000.0


class StoppedClock(SteadyClock):
    """It is NOW."""

    def now(self) -> float:
        return NOW


class Node:
    """Two machines, one of them disabled in the configuration, and who obeys commands for them."""

    def __init__(self, kept: Mapping[str, AlarmState] | None = None) -> None:
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self.alarms = Alarms(kept or {})
        self.alarms.clock = StoppedClock()
        machines = {"fan": {"bundle": "x"}, "pump": {"bundle": "y", "enabled": False}}
        self.alarms.apply_config(Config.model_validate({"machines": machines}))
        self.recorded: list[dict[str, Any]] = []
        self.woken = threading.Event()
        self.commands = Commands(self._act, self._answer, self.recorded.append, wake=self.woken.set)

    def _act(self, arrived: Arrived, command: Command) -> None:
        self.alarms.act(arrived.machine, command)

    def _answer(self, machine: str, response: ResponseMessage) -> None:
        self.answers.append((machine, ResponseMessage.model_validate(json.loads(response.text)).model_dump(by_alias=True)))

    def say(self, name: str, payload: str | bytes = "{}", *, machine: str = "fan", retained: bool = False) -> dict[str, Any]:
        """Send a command; the answer."""
        self.commands.arrive(machine, name, payload.encode() if isinstance(payload, str) else payload, retained)
        n_before = len(self.answers)
        assert self.woken.is_set()
        self.woken.clear()
        while self.commands.process_pending():
            pass
        ((answered, answer),) = self.answers[n_before:]
        assert answered == machine
        assert answer["command"] == name
        return answer

    def begin(self) -> None:
        self.alarms["fan"].update("anomaly", "alarm", event="event-1", now=NOW)


@pytest.mark.parametrize(
    ("name", "payload", "machine", "reason"),
    [
        ("ack", "{}", "fan", "there is no alarm to acknowledge"),
        ("ack", "{}", "saw", "the machine must be one of fan, pump, got saw"),
        ("enable", "{}", "pump", "the machine is disabled in the configuration"),
        ("reboot", "{}", "fan", "the command must be one of ack, snooze, enable, disable, clip, calibrate, learn, got reboot"),
        ("clip", "{}", "fan", "id must be set"),
        ("clip", '{"id": "../.."}', "fan", "id must be the id of an event, got '../..'"),
        ("calibrate", '{"minutes": 121}', "fan", "minutes must be in 1..120, got 121"),
        ("learn", '{"minutes": 5}', "fan", "minutes must be in 5.5..240, got 5"),
        ("learn", '{"files": []}', "fan", "files is not a setting, must be one of request, minutes, extend, force, stop"),
        ("disable", "", "fan", "the payload must be a JSON object, at least {}"),
        ("disable", "[]", "fan", "the payload must be a JSON object, at least {}"),
        ("disable", b"\xff\xfe", "fan", "the payload must be a JSON object, at least {}"),
        ("snooze", '{"duration_s": 86401}', "fan", "duration_s must be in 0..86400, got 86401"),
        ("snooze", '{"duration_s": -1}', "fan", "duration_s must be in 0..86400, got -1"),
        ("snooze", '{"duration_s": "60"}', "fan", "duration_s must be a whole number, got 60"),
        ("snooze", '{"duration_s": 60.5}', "fan", "duration_s must be a whole number, got 60.5"),
        ("snooze", '{"minutes": 5}', "fan", "minutes is not a setting, must be one of request, duration_s"),
        ("snooze", '{"a\\nb": 5}', "fan", "'a\\nb' is not a setting, must be one of request, duration_s"),
        ("snooze", '{"duration_s": 60}' + MAX_BYTES * " ", "fan", "the payload must have at most 4096 bytes, got more"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(name: str, payload: str | bytes, machine: str, reason: str) -> None:
    node = Node()
    answer = node.say(name, payload, machine=machine)
    assert (answer["accepted"], answer["reason"]) == (False, reason)
    assert node.alarms.state() == {}


def test_a_retained_command_is_refused() -> None:
    node = Node()
    assert "must not be retained" in node.say("disable", retained=True)["reason"]
    assert node.alarms.disabled == set()


def test_the_log_names_the_machine_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Node().commands.answer("fan", "calibrate", reason=None, request=None, result="fan: calibrated on 10 min of sound")
    assert caplog.messages == ["fan: calibrate done: calibrated on 10 min of sound"]


def test_acknowledge_snooze_disable_and_enable_do_what_they_say() -> None:
    node = Node()
    node.begin()
    assert node.say("ack", '{"id": "event-1", "request": "shift 2"}') == {
        **node.answers[-1][1],
        "accepted": True,
        "reason": None,
        "request": "shift 2",
    }
    assert node.alarms["fan"].marks.acknowledged
    assert node.say("snooze", '{"duration_s": 60.0}')["accepted"]
    assert node.alarms["fan"].marks.snoozed_until == NOW + 60
    assert node.say("snooze", "{}")["accepted"]
    assert node.alarms["fan"].marks.snoozed_until == NOW + 3_600
    assert node.say("disable")["accepted"]
    assert node.say("disable")["accepted"]
    assert node.alarms.state() == {"fan": AlarmState(disabled=True)}
    for name in ("ack", "snooze"):
        assert node.say(name)["reason"] == "the machine is disabled"
    assert node.say("enable")["accepted"]
    assert node.alarms.state() == {}


def test_what_people_did_survives_a_restart() -> None:
    node = Node()
    node.begin()
    node.say("ack")
    node.say("snooze", '{"duration_s": 600}')
    kept = ServiceState.model_validate_json(ServiceState(alarms=node.alarms.state()).model_dump_json())
    later = Node(kept.alarms)
    touched = AlarmState(acknowledged=True, snoozed_until=NOW + 600, starts=(NOW,))
    assert later.alarms.state() == node.alarms.state() == {"fan": touched}
    later.begin()
    assert later.alarms["fan"].marks == replace(node.alarms["fan"].marks, recent=2)
    assert later.alarms["fan"].flag("anomaly", "alarm") == "OFF"


def test_too_many_commands_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    for _ in range(MAX_WAITING + 150):
        node.commands.arrive("fan", "enable", b"{}", False)
    assert node.commands.n_dropped == 150
    assert caplog.text.count("too many commands") == 2
    while node.commands.process_pending():
        pass
    assert len(node.answers) == MAX_WAITING
    assert node.say("enable")["accepted"]


names = st.one_of(st.sampled_from(["ack", "snooze", "enable", "disable", "clip"]), st.text("abc-_9", min_size=1, max_size=64))
machines = st.one_of(st.sampled_from(["fan", "pump"]), st.text("fanpum-_9", min_size=1, max_size=64))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.one_of(st.text(), st.sampled_from(["duration_s", "id", "request"])), inner)
    ),
    max_leaves=10,
)
payloads = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps({"duration_s": value, "request": value}).encode()),
    st.integers().map(lambda number: b'{"duration_s": %d}' % number),
    st.sampled_from([b"{}", b"[" * 4_000, b'{"a":' * 600, b"9" * 4_096, b"{}" + b" " * 100_000, b'{"request": "\\ud800"}']),
)


@settings(max_examples=N_HOSTILE)
@given(machines, names, payloads, st.booleans())
@example("fan", "snooze", b'{"duration_s": 1e999}', False)
@example("fan", "ack", b'{"id": "\\u0000\\u001b[2J"}', False)
def test_hostile_commands_change_nothing_that_the_contract_does_not_allow(
    machine: str, name: str, payload: bytes, retained: bool
) -> None:
    node = Node()
    node.begin()
    answer = node.say(name, payload, machine=machine, retained=retained)
    assert answer["accepted"] == (answer["reason"] is None)
    assert len(answer["reason"] or "") <= 200
    assert (answer["reason"] or "").isprintable()
    assert len(payload) <= MAX_BYTES or not answer["accepted"]
    marks = node.alarms["fan"].marks
    if not answer["accepted"]:
        assert node.alarms.state() == {"fan": AlarmState(starts=(NOW,))}  # that it has begun, and nothing else
        return
    assert (machine, retained) == ("fan", False)
    said = json.loads(payload)
    assert node.alarms.disabled == ({"fan"} if name == "disable" else set())
    assert marks.acknowledged == (name == "ack")
    if name == "snooze" and said.get("duration_s") != 0:
        assert marks.snoozed_until == NOW + said.get("duration_s", 3_600)
        assert said.get("duration_s", 3_600) <= MAX_SNOOZE_S
    else:
        assert marks.snoozed_until is None


def test_a_command_of_the_control_socket_wakes_the_service_too() -> None:
    node = Node()
    replies: list[ResponseMessage] = []
    node.commands.order("fan", "ack", b"{}", by="tool", reply=replies.append)
    assert node.woken.is_set()
    assert node.commands.process_pending()
    assert [one.reason for one in replies] == ["there is no alarm to acknowledge"]


def test_a_hail_of_commands_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Random bytes, all lengths; what is answered is thrown away here, as the broker does."""
    caplog.set_level(logging.CRITICAL)
    node, chance = Node(), random.Random(5)

    def hail(n: int) -> None:
        for _ in range(n):
            name = chance.choice(["ack", "snooze", "enable", "disable", "x" * chance.randrange(1, 64)])
            node.commands.arrive("fan", name, chance.randbytes(chance.randrange(5_000)), chance.random() < 0.1)
            node.commands.process_pending()
            node.answers.clear()
            node.recorded.clear()
        gc.collect()

    tracemalloc.start()
    hail(500)
    before, _ = tracemalloc.get_traced_memory()
    hail(N_HOSTILE)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000
    assert node.alarms.state() == {}


def test_the_topic_of_a_command_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    commands = Commands(lambda _arrived, _command: None, lambda _machine, _response: None, lambda _line: None, wake=lambda: None)
    commands.arrive("fan\nforged", "ack\nforged", b"{}", False)
    assert commands.process_pending()
    assert not any("\n" in line for line in caplog.messages)
