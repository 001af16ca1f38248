"""The subscriber of docs/mqtt.md, as it stands there, against a real broker: every event once, also what it missed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.json_lines import to_json
from tests.broker import Broker, running_broker, say, tell
from tests.mqtt.anomalies import anomaly
from tests.subscriber import Subscriber
from tests.waiting import wait_until

TOPIC = "stethos/hall-2/fan/event"


@pytest.fixture
def program(root: Path) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", (root / "docs" / "mqtt.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


@contextmanager
def running(program: str, broker: Broker, printed: Path) -> Iterator[None]:
    """The example, with its output appended to a file."""
    assert '"127.0.0.1", 1883' in program
    code = program.replace('"127.0.0.1", 1883', f'"127.0.0.1", {broker.port}')
    with printed.open("a") as file:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=file, stderr=file)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_example_hears_every_event_once_and_what_it_missed(program: str, tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    printed.touch()
    first, missed = [[to_json(event.to_dict()) for event in anomaly(number)] for number in (1, 2)]
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        with running(program, broker, printed):
            wait_until(lambda: tell(broker, TOPIC, first[0]) and printed.read_text() != "")  # it has subscribed
            for payload in [*first, *first[1:]]:
                say(broker, TOPIC, payload)
            wait_until(lambda: "end run/1" in printed.read_text())
        for payload in missed:
            say(broker, TOPIC, payload)
        with running(program, broker, printed):
            wait_until(lambda: "end run/2" in printed.read_text())
    assert len(watcher.on(TOPIC)) > 6
    lines = [line.split() for line in printed.read_text().splitlines()]
    seen = [(line[3], line[4]) for line in lines]
    if seen[3] == seen[2]:  # the program was ended before it had acknowledged it, and the broker repeats it
        del seen[3]
    assert seen == [(kind, f"run/{number}:") for number in (1, 2) for kind in ("start", "update", "end")]
