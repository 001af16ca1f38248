"""Unexpected errors: each is logged and counted, and affects only the part in which it happened."""

import asyncio
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from monitor.audio.capture_process import CaptureLauncher
from monitor.audio.microphone import Microphone
from monitor.bundle import Bundle, load_bundle
from monitor.clips.service import ClipService
from monitor.clips.worker import BackgroundWorker
from monitor.clock import SteadyClock
from monitor.config import Config
from monitor.config.fields import MAX_SNOOZE_S
from monitor.daemon import daemon as daemon_module
from monitor.daemon import machine as machine_module
from monitor.daemon import supervisor as supervisor_module
from monitor.daemon.alarm import Alarm
from monitor.daemon.alarms import Alarms
from monitor.daemon.control.commands import Arrived, Commands
from monitor.daemon.ha_discovery import HomeAssistantDiscovery
from monitor.daemon.health import Health
from monitor.daemon.notify import Notifier
from monitor.daemon.state_file import SavedSlowPath, ServiceState, StateFile
from monitor.daemon.state_publisher import StatePublisher
from monitor.daemon.supervisor import MAX_POLL_S, MIN_POLL_S, OPENING_POLL_S, Supervisor
from monitor.demo.playback import playback_command
from monitor.errors import BundleError
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Result
from monitor.mqtt.messages import Command, Disable, Enable
from monitor.scoring.scorer import TickScore
from monitor.threads import Watchdog, WatchedThread
from tests.mqtt.anomalies import anomaly
from tests.waiting import wait_until

NO_MICROPHONE = "usb-port:99-9"  # no process is started to find that out


class Outlet:
    """Records the last message of each topic, and fails on request."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}
        self.fails_on: str | None = None

    def publish_retained(self, topic: str, payload: str) -> None:
        if topic == self.fails_on:
            self.fails_on = None
            raise RuntimeError("a bug")
        self.last[topic] = payload

    def publish(self, event: Event) -> None:
        self.last["event"] = event.id


@pytest.fixture
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def config_of(demo_bundle: Path, *names: str) -> Config:
    entry = {"bundle": str(demo_bundle), "microphone": NO_MICROPHONE}
    machines = {name: {**entry, "channel": channel} for channel, name in enumerate(names, start=1)}
    return Config.model_validate({"node": "pi", "machines": machines})


@contextmanager
def running(outlet: Outlet, alarms: Alarms | None = None) -> Iterator[Supervisor]:
    clips = ClipService(None, run=lambda job: job(), present=None)
    supervisor = Supervisor(outlet, alarms or Alarms({}), clips, node="pi", slow_paths={})
    try:
        yield supervisor
    finally:
        supervisor.stop()


def test_it_polls_when_a_tick_should_be_full_and_often_until_the_microphone_is_open(
    demo_bundle: Path, bundle: Bundle, demo_normal: Path
) -> None:
    clips = ClipService(None, run=lambda job: job(), present=None)
    launcher = CaptureLauncher(playback_command({"name:mic": [demo_normal]}))
    supervisor = Supervisor(Outlet(), Alarms({}), clips, node="pi", slow_paths={}, launch=launcher)
    entry = {"bundle": str(demo_bundle), "microphone": "name:mic"}
    try:
        supervisor.apply_config(Config.model_validate({"node": "pi", "machines": {"fan": entry}}), {"fan": bundle})
        fan, (microphone,) = supervisor.machines["fan"], supervisor.microphones

        def has_tick() -> bool:
            supervisor.poll()
            assert microphone.ring is not None or supervisor.wait_s() == OPENING_POLL_S
            return fan.scored_s > 0

        wait_until(has_tick)
        n_met = 0
        for _ in range(16):
            wait_s, scored_s = supervisor.wait_s(), fan.scored_s
            assert MIN_POLL_S <= wait_s <= MAX_POLL_S
            time.sleep(wait_s)
            supervisor.poll()
            if MIN_POLL_S < wait_s < MAX_POLL_S:
                assert fan.scored_s > scored_s
                n_met += 1
        assert n_met >= 3
    finally:
        supervisor.stop()


def test_an_unexpected_error_of_one_machine_leaves_the_others_running(
    demo_bundle: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.05)
    outlet = Outlet()
    with running(outlet) as supervisor:
        supervisor.apply_config(config_of(demo_bundle, "fan", "pump"), {"fan": bundle, "pump": bundle})
        outlet.fails_on = "fan/state"
        supervisor.poll()
        assert '"reason": "score_error"' in outlet.last["fan/state"]
        assert outlet.last["fan/availability"] == "offline"
        assert '"reason": "microphone_absent"' in outlet.last["pump/state"]
        assert supervisor.n_failures == 1
        assert supervisor.status()["machines"]["fan"]["trouble"] == "RuntimeError: a bug"
        assert supervisor.in_words() == "pump unknown (microphone_absent); fan unknown (score_error)"
        (record,) = [record for record in caplog.records if record.exc_info]
        assert record.getMessage() == "fan: unexpected error: RuntimeError: a bug; restarting in 0 s"
        time.sleep(0.06)
        supervisor.poll()
        supervisor.poll()
        assert '"reason": "microphone_absent"' in outlet.last["fan/state"]


def test_the_same_error_again_doubles_the_wait_and_logs_no_other_traceback(
    demo_bundle: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.01)
    outlet = Outlet()
    with running(outlet) as supervisor:
        supervisor.apply_config(config_of(demo_bundle, "fan"), {"fan": bundle})
        for number in range(1, 4):

            def fails(number: int = number) -> bool:
                outlet.fails_on = "fan/state"
                supervisor.poll()
                return supervisor.n_failures == number

            wait_until(fails)
    assert [bool(record.exc_info) for record in caplog.records if "unexpected error" in record.message] == [True, False, False]


def test_a_machine_that_is_not_polled_any_more_counts_as_stalled(
    demo_bundle: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "STALLED_AFTER_S", 0.1)
    with running(Outlet()) as supervisor:
        supervisor.apply_config(config_of(demo_bundle, "fan"), {"fan": bundle})
        supervisor.poll()
        assert supervisor.stalled() == []
        wait_until(lambda: supervisor.stalled() == ["fan for 3 s"])  # three ticks
        supervisor.poll()
        assert supervisor.stalled() == []


def test_a_machine_without_its_bundle_is_unknown_until_there_is_one(demo_bundle: Path, bundle: Bundle) -> None:
    outlet, alarms = Outlet(), Alarms({})
    config = config_of(demo_bundle, "fan", "pump")
    with running(outlet, alarms) as supervisor:
        supervisor.apply_config(config, {"pump": bundle})
        supervisor.poll()
        assert '"state": "unknown", "reason": "bundle"' in outlet.last["fan/state"]
        assert outlet.last["fan/availability"] == "offline"
        assert supervisor.in_words() == "pump unknown (microphone_absent); fan unknown (bundle)"
        assert supervisor.stalled() == []
        assert supervisor.status()["machines"]["fan"]["reason"] == "bundle"
        alarms.act("fan", Disable())
        supervisor.apply_config(config, {"pump": bundle})
        assert '"state": "disabled", "reason": "command"' in outlet.last["fan/state"]
        assert list(supervisor.status()["machines"]) == ["pump"]
        alarms.act("fan", Enable())
        supervisor.apply_config(config, {"pump": bundle, "fan": bundle})
        supervisor.poll()
        assert supervisor.in_words() == "pump unknown (microphone_absent); fan unknown (microphone_absent)"


def test_a_refused_configuration_changes_nothing(demo_bundle: Path, bundle: Bundle) -> None:
    alarms, outlet = Alarms({}), Outlet()
    with running(outlet, alarms) as supervisor:
        supervisor.apply_config(config_of(demo_bundle, "fan"), {"fan": bundle})
        fan = supervisor.machines["fan"]
        new = config_of(demo_bundle, "fan", "pump").model_copy(
            update={"alarm": Config().alarm.model_copy(update={"repeat_s": 5.0})}
        )
        broken = dataclasses.replace(bundle, model=b"no model")
        with pytest.raises(BundleError):
            supervisor.apply_config(new, {"fan": bundle, "pump": broken})
        assert supervisor.machines == {"fan": fan}
        assert alarms["fan"].repeat_s == Config().alarm.repeat_s
        with pytest.raises(KeyError):
            alarms["pump"]


def test_a_snooze_of_the_longest_duration_outlasts_the_next_tick() -> None:
    """A tick's sound ended before the command came."""
    outlet, alarm, clock = Outlet(), Alarm(), SteadyClock()
    began = datetime.fromtimestamp(time.time() - 10.0, timezone.utc)
    timeline = Anchor(utc=began, sample_rate_hz=16_000, synced=True)
    publisher = StatePublisher(outlet, machine="fan", threshold=1.0, timeline=timeline, alarm=alarm, clock=clock)
    alarm.snooze(MAX_SNOOZE_S, clock.now())
    tick = TickScore(0, 16_384, None, None, 2.0, 10)
    publisher.push(Result(tick, 2.0, "anomaly", None, 0, None, "alarm"))
    assert outlet.last["fan/anomaly"] == "OFF"
    assert '"snoozed": true' in outlet.last["fan/state"]


@pytest.mark.parametrize("error", [ValueError("a damaged clip"), MemoryError(), SystemError("Pillow")])
def test_a_job_with_an_unexpected_error_does_not_end_the_worker(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    worker, done = BackgroundWorker("clips"), threading.Event()

    def fail() -> None:
        raise error

    for job in (fail, fail, done.set):
        worker.put(job)
    assert done.wait(10.0)
    worker.close(10.0)
    assert (worker.n_failed, worker.n_unexpected, worker.n_dropped) == (2, 2, 0)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert worker.probe(patience_s=1.0).n_failures() == 2


class Unwritable(ServiceState):
    """A state that cannot be serialised."""

    def model_dump_json(self, **_: object) -> str:
        raise TypeError("a bug")


def test_a_state_file_survives_an_unexpected_error(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    file: StateFile[ServiceState] = StateFile(path, ServiceState(), what="acknowledgements")
    file.save(Unwritable(topics=frozenset({"a"})))
    wait_until(lambda: file.probe(patience_s=1.0).n_failures() == 1)
    file.save(ServiceState(topics=frozenset({"b"})))
    wait_until(path.exists)
    file.close(5.0)
    assert StateFile(path, ServiceState(), what="").loaded.topics == {"b"}


def test_a_command_with_an_unexpected_error_is_refused_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[str] = []

    def act(_arrived: Arrived, _command: Command) -> None:
        raise RuntimeError("a bug")

    commands = Commands(act, lambda _machine, response: answers.append(response.text), lambda _line: None, wake=lambda: None)
    commands.arrive("fan", "ack", b"{}", retained=False)
    commands.process_pending()
    assert '"reason": "unexpected error: RuntimeError"' in answers[0]
    assert commands.n_failures == 1
    assert "a bug" in caplog.text


def test_a_thread_that_ends_or_does_not_advance_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    fails, ends = threading.Event(), threading.Event()

    def run(event: threading.Event) -> Callable[[], None]:
        def wait() -> None:
            event.wait(10.0)
            if event is fails:
                raise SystemExit

        return wait

    threads = {name: WatchedThread(name, run(event)) for name, event in (("one", fails), ("other", ends))}
    watchdog = Watchdog()
    for thread in threads.values():
        thread.start()
        watchdog.watch(thread.probe(patience_s=30.0))
    assert watchdog.stalled(0.0) == []
    threads["other"].advance()
    assert watchdog.stalled(31.0) == ["one for 31 s"]
    fails.set()
    threads["one"].join(10.0)
    assert watchdog.stalled(40.0) == ["one has ended"]
    assert watchdog.n_failures == 1
    assert "thread one ended by an unexpected error" in caplog.text
    ends.set()
    threads["other"].join(10.0)


def test_an_idle_worker_advances_and_a_stuck_one_does_not() -> None:
    worker, watchdog, go = BackgroundWorker("clips"), Watchdog(), threading.Event()
    watchdog.watch(worker.probe(patience_s=30.0))
    assert watchdog.stalled(0.0) == watchdog.stalled(100.0) == []
    worker.put(lambda: (go.wait(10.0), None)[1])
    assert watchdog.stalled(101.0) == []
    assert watchdog.stalled(140.0) == ["clips for 40 s"]
    go.set()
    worker.close(10.0)
    assert watchdog.stalled(200.0) == []


def test_a_child_that_ends_while_its_figures_are_read_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = psutil.Process(child.pid)
    health = Health(tmp_path)
    child.kill()
    child.wait()
    monkeypatch.setattr(psutil.Process, "children", lambda _: [process])
    assert health.read()["memory_mb"] > 1.0


def test_an_interrupted_change_leaves_no_machine_stopped(
    demo_bundle: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Outlet()) as supervisor:
        old = config_of(demo_bundle, "fan")
        moved = old.machines["fan"].model_copy(update={"microphone": "usb-port:99-8"})
        new = old.model_copy(update={"machines": {"fan": moved}})
        supervisor.apply_config(old, {"fan": bundle})

        def interrupted(self: Supervisor, name: str, _reason: str) -> None:
            self.machines.pop(name).stop("reloaded")
            raise MemoryError

        monkeypatch.setattr(Supervisor, "_stop", interrupted)
        with pytest.raises(MemoryError):
            supervisor.apply_config(new, {"fan": bundle})
        monkeypatch.undo()
        assert supervisor.stalled() == ["fan is not running"]
        supervisor.apply_config(old, {"fan": bundle})  # as every command does
        assert list(supervisor.machines) == ["fan"]
        assert supervisor.stalled() == []


def test_a_microphone_that_cannot_be_closed_does_not_interrupt_a_change(
    demo_bundle: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("resampler")

    with running(Outlet()) as supervisor:
        old = config_of(demo_bundle, "fan")
        moved = old.machines["fan"].model_copy(update={"microphone": "usb-port:99-8"})
        supervisor.apply_config(old, {"fan": bundle})
        monkeypatch.setattr(Microphone, "close", fail)
        monkeypatch.setattr(SavedSlowPath, "of", fail)
        supervisor.apply_config(old.model_copy(update={"machines": {"fan": moved}}), {"fan": bundle})
        monkeypatch.undo()
        assert supervisor.machines["fan"].spec.settings.microphone == "usb-port:99-8"
        assert supervisor.n_failures == 2


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The system starts no thread until `undo` is called."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        yield patch


def test_a_worker_starts_once_the_system_allows_a_thread(
    no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker, done = BackgroundWorker("clips"), threading.Event()
    probe = worker.probe(patience_s=1.0)
    worker.put(done.set)
    assert probe.advanced() == probe.advanced()  # a job waits
    assert worker.n_unexpected == 3
    assert caplog.messages == ["clips: cannot start a thread, retrying: can't start new thread"]
    no_threads.undo()
    probe.advanced()  # as the watchdog does every second
    assert done.wait(10.0)
    worker.close(10.0)
    assert probe.is_alive()
    assert worker.n_failed == worker.n_dropped == 0


def test_a_state_file_is_written_once_the_system_allows_a_thread(tmp_path: Path, no_threads: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    file: StateFile[ServiceState] = StateFile(path, ServiceState(), what="acknowledgements")
    file.save(ServiceState(topics=frozenset({"a"})))
    no_threads.undo()
    file.save(ServiceState(topics=frozenset({"b"})))
    wait_until(path.exists)
    file.close(5.0)
    assert StateFile(path, ServiceState(), what="").loaded.topics == {"b"}


def test_a_state_that_cannot_be_published_does_not_cost_the_event() -> None:
    outlet = Outlet()
    timeline = Anchor(utc=datetime.now(timezone.utc), sample_rate_hz=16_000, synced=True)
    publisher = StatePublisher(outlet, machine="fan", threshold=1.0, timeline=timeline)
    outlet.fails_on = "fan/state"
    tick = TickScore(0, 16_384, None, None, 2.0, 10)
    event = anomaly(0)[0]
    with pytest.raises(RuntimeError, match="a bug"):
        publisher.push(Result(tick, 2.0, "anomaly", None, 0, event, "alarm"))
    assert outlet.last == {"event": event.id}


def fail(*_: object) -> None:
    raise MemoryError("a bug")


def test_an_error_of_a_microphone_reaches_nothing_else(
    demo_bundle: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Microphone, "poll", fail)
    with running(Outlet()) as supervisor:
        supervisor.apply_config(config_of(demo_bundle, "fan"), {"fan": bundle})
        supervisor.poll()
        supervisor.poll()
        assert supervisor.n_failures == 2
        assert list(supervisor.machines) == ["fan"]
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_process_that_cannot_list_its_children_has_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "children", Mock(side_effect=psutil.AccessDenied))
    assert Health(tmp_path).read()["memory_mb"] > 1.0


def test_a_damaged_bundle_does_not_keep_the_others_from_running(
    tmp_path: Path, demo_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(demo_bundle, damaged)
    (damaged / "model.tflite").write_bytes(b"no model")
    entry = {"bundle": str(demo_bundle), "microphone": NO_MICROPHONE}
    config = {
        "node": "pi",
        "state_dir": str(tmp_path / "state"),
        "runtime_dir": str(tmp_path / "run"),
        "mqtt": {"host": "127.0.0.1", "port": 1},
        "machines": {"fan": {**entry, "bundle": str(damaged)}, "pump": entry},
    }
    (tmp_path / "monitor.yaml").write_text(json.dumps(config))

    async def run() -> None:
        daemon = daemon_module.Daemon(tmp_path / "monitor.yaml", {}, CaptureLauncher())
        task = asyncio.create_task(daemon.run())
        await asyncio.sleep(0.5)
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_for_message("; not reloaded")
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    async def wait_for_message(text: str) -> None:
        ends = time.monotonic() + 20.0
        while not any(text in message for message in caplog.messages) and time.monotonic() < ends:
            await asyncio.sleep(0.05)

    asyncio.run(run())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.partition(": ")[0] for error in errors] == ["machines.fan.bundle"] * 2  # at the start and the reload


def test_an_error_of_the_service_itself_is_counted_and_does_not_end_it(
    tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(daemon_module, "READY_WITHIN_S", 0.0)
    notified: list[str] = []
    monkeypatch.setattr(Notifier, "send", lambda _, *lines: notified.extend(lines))
    config = {
        "node": "pi",
        "state_dir": str(tmp_path / "state"),
        "runtime_dir": str(tmp_path / "run"),
        "mqtt": {"host": "127.0.0.1", "port": 1},
        "machines": {"fan": {"bundle": str(demo_bundle), "microphone": NO_MICROPHONE}},
    }
    (tmp_path / "monitor.yaml").write_text(json.dumps(config))
    failing = {supervisor_module.Supervisor: "poll", HomeAssistantDiscovery: "poll"}

    async def run() -> None:
        daemon = daemon_module.Daemon(tmp_path / "monitor.yaml", {}, CaptureLauncher())
        task = asyncio.create_task(daemon.run())
        with monkeypatch.context() as patch:
            for owner, name in failing.items():
                patch.setattr(owner, name, fail)
            await asyncio.sleep(1.2)
        assert "READY=1" in notified
        assert "WATCHDOG=1" not in notified
        await asyncio.sleep(1.2)
        assert "WATCHDOG=1" in notified
        monkeypatch.setattr(supervisor_module.Supervisor, "slow_paths", fail)
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    asyncio.run(run())
    assert json.loads((tmp_path / "state" / "kept.json").read_text())["topics"]
    assert [message for message in caplog.messages if message.endswith("unexpected error")] == [
        "machines: unexpected error",
        "service: unexpected error",
        "stop: slow paths: unexpected error",
    ]
    assert caplog.messages[-1] == "stopped"
