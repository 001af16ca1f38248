"""The time from an event to its commit, compared with the time that the disk needs for the same bytes.

    python -m benchmarks.speed.outbox [EVENTS]

Events arrive at random times, about twenty per second, while there is no broker. In between, the same bytes are appended to
a file and synchronised. Both are on the disk of the working directory. Run it on an idle disk.
"""

import json
import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import Table, make_parser, publish
from monitor.config import MqttConfig
from monitor.mqtt.sink import MqttSink
from tests.mqtt.anomalies import anomaly

PAUSE_S = 0.05  # mean time between events


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("events", type=int, nargs="?", default=1000, metavar="EVENTS")
    arguments = parser.parse_args()
    publish([measure(arguments.events)], arguments.json)


def measure(n_events: int) -> Table:
    """The table."""
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
    rows = [
        [what, *(f"{value:.1f}" for value in np.quantile(values, (0.5, 0.99, 1.0)))]
        for what, values in (("decision to commit", waits_ms), ("the same bytes appended and synchronised", floor_ms))
    ]
    return Table("latency", [f"{n_events} events, ms", "median", "p99", "longest"], rows)


if __name__ == "__main__":
    main()
