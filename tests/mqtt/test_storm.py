"""Events under a broker that dies, freezes and is cut off: none lost, none altered, in order, repeated only by (id, seq)."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.json_lines import to_json
from monitor.mqtt.sink import MqttSink
from tests.broker import Broker
from tests.mqtt.anomalies import anomaly, without_repeats
from tests.proxy import Proxy
from tests.subscriber import Subscriber
from tests.waiting import wait_until

N_EVENTS = 1_000 if os.environ.get("LONG_TESTS") else 150
MACHINES = ("fan", "pump", "saw")
SETTINGS = "allow_anonymous true\npersistence true\nautosave_interval 1\npersistence_location {}/\n"


class Storm:
    """A broker behind a bad network, and somebody who hears everything that it takes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broker = Broker(folder, settings=SETTINGS.format(folder))
        self._broker.start()
        self._watchers = [Subscriber(self._broker).__enter__()]
        self.way = Proxy(self._broker.port)

    def strikes(self) -> list[Callable[[], None]]:
        return [self.forgetful_death, self.restart, self.freeze, self.swallow, self.cut]

    def forgetful_death(self) -> None:
        self._restart(self._broker.kill, forget=True)

    def restart(self) -> None:
        self._restart(self._broker.stop, forget=False)

    def freeze(self) -> None:
        with self._broker.frozen():
            time.sleep(3)

    def swallow(self) -> None:
        self.way.become("swallows")
        time.sleep(3)
        self.way.become("fair")

    def cut(self) -> None:
        self.way.become("refuses")
        time.sleep(0.5)
        self.way.become("fair")

    def heard(self, topic: str) -> list[str]:
        return [payload for watcher in self._watchers for payload in watcher.on(topic)]

    def end(self) -> None:
        self._watchers[-1].__exit__()
        self._broker.kill()
        self.way.close()

    def _restart(self, end: Callable[[], None], *, forget: bool) -> None:
        """The watcher listens again before the node comes back: what nobody subscribes to is nobody's to hear."""
        end()
        self.way.become("refuses")
        self._watchers[-1].__exit__()
        if forget:
            (self._folder / "mosquitto.db").unlink(missing_ok=True)
        self._broker.start()
        self._watchers.append(Subscriber(self._broker).__enter__())
        self.way.become("fair")


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    made = Storm(tmp_path)
    yield made
    made.end()


def hear_out(storm: Storm, told: list[Event], machine: str) -> list[str]:
    """What was heard of a machine, once as much was heard as told."""
    n_told = sum(event.machine == machine for event in told)
    topic = f"stethos/hall-2/{machine}/event"
    wait_until(lambda: len(set(storm.heard(topic))) >= n_told)
    return storm.heard(topic)


def strike_all(strikes: list[Callable[[], None]]) -> None:
    for strike in strikes:
        strike()
        time.sleep(0.5)


def test_nothing_is_lost_or_altered_in_a_storm(
    storm: Storm, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(7)
    config = MqttConfig.model_validate({"port": storm.way.port, "keepalive_s": 2, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5})
    sink = MqttSink(config, node="hall-2", state_dir=tmp_path, clock_synced=True)
    sink.start()
    wait_until(lambda: sink.counts.connected)
    strikes = storm.strikes() * (4 if N_EVENTS >= 1_000 else 1)
    chance.shuffle(strikes)
    weather = threading.Thread(target=strike_all, args=[strikes])
    weather.start()
    told: list[Event] = []
    while weather.is_alive() or len(told) < N_EVENTS:
        events = anomaly(len(told), machine=chance.choice(MACHINES), n_updates=chance.randrange(3))
        for event in events:
            sink.publish(event)
            told.append(event)
            time.sleep(chance.choice([0.0, 0.02, 0.1]))
    wait_until(lambda: sink.counts.queued == 0 and sink.counts.connected, 60.0)
    heard = {machine: hear_out(storm, told, machine) for machine in MACHINES}
    for machine, payloads in heard.items():
        assert without_repeats(payloads) == [to_json(event.to_dict()) for event in told if event.machine == machine]
    n_repeats = sum(map(len, heard.values())) - len(told)
    counts = sink.counts
    assert sink.stop(5.0) == 0
    assert counts.dropped == 0
    assert counts.connections > 3
    record_property(
        "figures",
        f"{len(told)} events, {len(strikes)} strikes, {counts.connections} connections: 0 lost, {n_repeats} repeats; "
        f"p99 of decision to commit {counts.commit_ms_p99:.1f} ms",
    )
