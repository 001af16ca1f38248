"""A program that tells of one made-up anomaly after the other until it is killed, or with `drain` delivers what is left.

python -m tests.mqtt.crashing_node PORT STATE_DIR RUN SEED|drain
"""

import random
import sys
import time
from pathlib import Path

from monitor.config import MqttConfig
from monitor.mqtt.sink import MqttSink
from tests.mqtt.anomalies import anomaly


def main(port: str, state_dir: str, run: str, seed: str) -> None:
    config = MqttConfig.model_validate({"port": port, "keepalive_s": 5, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5})
    sink = MqttSink(config, node="hall-2", state_dir=Path(state_dir), clock_synced=True)
    sink.start()
    if seed == "drain":
        while not (sink.counts.connected and sink.counts.queued == 0):
            time.sleep(0.02)
        sys.exit(sink.stop(30.0))
    chance = random.Random(seed)
    print("ready", flush=True)
    number = 0
    while True:
        machines = {name: anomaly(number, machine=name, n_updates=chance.randrange(4), run=run) for name in ("fan", "pump")}
        number += 1
        while machines:
            name = chance.choice(sorted(machines))
            sink.publish(machines[name].pop(0))
            if not machines[name]:
                del machines[name]
            time.sleep(chance.choice([0.0, 0.001, 0.02]))
        print(sink.counts.commit_ms_p99, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
