"""How long an event waits for its commit, beside what the disk takes for the same bytes.

    python -m benchmarks.outbox [EVENTS]

Events are decided at random moments, about twenty a second, while no broker is there; every other moment as many bytes are
appended to a file and synchronised. Both are on the disk of the working directory; run it on an idle one.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from monitor.mqtt.keeper import Keeper
from monitor.mqtt.outbox import Limits
from tests.mqtt.anomalies import anomaly

PAUSE_S = 0.05  # between an event and the next, on average


def main(n_events: int = 1000) -> None:
    """Print the table."""
    chance = random.Random(0)
    waits_ms: list[float] = []
    floor_ms: list[float] = []
    with tempfile.TemporaryDirectory(dir=".") as folder, (Path(folder) / "floor").open("ab", buffering=0) as floor:
        limits = Limits(messages=100_000, n_bytes=100_000_000)
        keeper = Keeper(Path(folder) / "outbox.sqlite", limits, clock_synced=True, hand_over=lambda _epoch, _rows: None)
        keeper.start()
        for number in range(n_events):
            time.sleep(chance.uniform(0.5, 1.5) * PAUSE_S / 2)
            event = anomaly(number)[0]
            began = time.monotonic()
            keeper.put(event)
            while keeper.n_waiting:
                time.sleep(0.0001)
            waits_ms.append(1000 * (time.monotonic() - began))
            time.sleep(chance.uniform(0.5, 1.5) * PAUSE_S / 2)
            began = time.monotonic()
            floor.write(json.dumps(event.to_dict()).encode())
            os.fsync(floor.fileno())
            floor_ms.append(1000 * (time.monotonic() - began))
        keeper.stop(10.0)
    print(f"| {n_events} events, ms | median | p99 | longest |\n|---|---:|---:|---:|")
    for what, values in (("decision to commit", waits_ms), ("the same bytes appended and synchronised", floor_ms)):
        print(f"| {what} | {np.median(values):.1f} | {np.quantile(values, 0.99):.1f} | {max(values):.1f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
