"""The time from an event to its commit, compared with the time that the disk needs for the same bytes.

    python -m benchmarks.speed.outbox [EVENTS]

Events arrive at random times, about twenty per second, while there is no broker. In between, the same bytes are appended to
a file and synchronised. Both are on the disk of the working directory. Run it on an idle disk.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from monitor.config import MqttConfig
from monitor.mqtt.sink import MqttSink
from tests.mqtt.anomalies import anomaly

PAUSE_S = 0.05  # mean time between events


def main(n_events: int = 1000) -> None:
    """Print the table."""
    chance = random.Random(0)
    waits_ms: list[float] = []
    floor_ms: list[float] = []
    with tempfile.TemporaryDirectory(dir=".") as folder, (Path(folder) / "floor").open("ab", buffering=0) as floor:
        sink = MqttSink(
            MqttConfig(port=9, outbox_messages=100_000), node="hall-2", state_dir=Path(folder), log_first_failure=False
        )
        sink.start()
        for number in range(n_events):
            time.sleep(chance.uniform(0.5, 1.5) * PAUSE_S / 2)
            event = anomaly(number)[0]
            began = time.monotonic()
            sink.publish(event)
            sink.wait_for(lambda: sink.n_uncommitted == 0, 10.0)
            waits_ms.append(1000 * (time.monotonic() - began))
            time.sleep(chance.uniform(0.5, 1.5) * PAUSE_S / 2)
            began = time.monotonic()
            floor.write(json.dumps(event.to_dict()).encode())
            os.fsync(floor.fileno())
            floor_ms.append(1000 * (time.monotonic() - began))
        sink.stop(10.0)
    print(f"| {n_events} events, ms | median | p99 | longest |\n|---|---:|---:|---:|")
    for what, values in (("decision to commit", waits_ms), ("the same bytes appended and synchronised", floor_ms)):
        print(f"| {what} | {np.median(values):.1f} | {np.quantile(values, 0.99):.1f} | {max(values):.1f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
