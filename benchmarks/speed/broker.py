"""The load of a plant on its broker and its overview: messages a second, latency, memory, CPU, and a restart of the broker.

    python -m benchmarks.speed.broker [--nodes 500] [--seconds 60] [--every 10] [--down 2 20] [--tls] [--reconnect 1]

Each node is a real `MqttSink`, the daemon's whole delivery, with the messages of one machine: a state every `--every` seconds
(10 is the daemon's; 1 is ten times as many), health once a minute, an event every ten minutes, and the births of each connection.
They run in processes of 125 nodes. The broker is one mosquitto on loopback, and the overview a real `monitor web --fleet`. The
latency of a state is from its publication to its arrival at a subscriber of mosquitto's own.
"""

import argparse
import heapq
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed import plant_messages
from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.sink import MqttSink
from tests.broker import Broker
from tests.certificates import Authority
from tests.overview.rig import Overview
from tests.waiting import wait_until

SETTINGS = "allow_anonymous true\nmax_queued_messages 20000\n"
NODES_PER_PROCESS = 125
HEALTH_S, EVENT_S = 60.0, 600.0
REPORT_S = 0.05
WARM_UP_S = 15.0


class GeneratedNode:
    """A node with one machine."""

    def __init__(self, number: int, config: MqttConfig, *, every_s: float) -> None:
        self.name = f"n-{number:04d}"
        self.random = random.Random(number)
        self.every_s = every_s
        self.since = plant_messages.now()
        self.event_id: str | None = None
        self.n_sent = 0
        self.sink = MqttSink(config, node=self.name, state_dir=None, on_command=lambda *_: None)
        self.sink.start()
        self.sink.publish_retained("info", plant_messages.info({"fan": f"Fan {number}"}, number=number))
        self.sink.publish_retained("fan/availability", "online")

    def state(self) -> float:
        """Publish a state, whose score is the time of its publication; return when the next one is due."""
        ratio = round(self.random.uniform(2.0, 4.0) if self.event_id else self.random.uniform(0.3, 0.9), 3)
        kind = "alarm" if self.event_id else "normal"
        self.sink.publish_retained("fan/state", plant_messages.state(kind, ratio, since=self.since, score=time.time()))
        self.n_sent += 1
        return self.every_s

    def health(self) -> float:
        """Publish the health."""
        self.sink.publish_transient("health", plant_messages.health(self.random), retain=True)
        self.n_sent += 1
        return HEALTH_S

    def event(self) -> float:
        """Start an anomaly, or end it after 30 s."""
        text = json.loads(plant_messages.event(self.name, "fan", kind="end" if self.event_id else "start", id_=self.event_id))
        given = {key: value for key, value in text.items() if key not in ("schema", "ts", "onset_ts", "bands", "seq")}
        now = datetime.now(timezone.utc)
        self.sink.publish(Event(**given, ts=now, onset_ts=now, seq=int(self.event_id is not None), bands=()))
        self.n_sent += 1
        self.event_id = None if self.event_id else text["id"]
        return 30.0 if self.event_id else self.random.expovariate(1 / EVENT_S)


def generate(config: MqttConfig, first: int, count: int, every_s: float) -> None:
    """Run nodes until standard input ends. Prints [time, nodes connected, connections so far, messages so far]."""
    nodes = [GeneratedNode(number, config, every_s=every_s) for number in range(first, first + count)]
    due: list[tuple[float, int, Any]] = []
    began = time.monotonic()
    for number, node in enumerate(nodes):
        phase = node.random.random()
        due += [(began + phase * every_s, 3 * number, node.state), (began + phase * HEALTH_S, 3 * number + 1, node.health)]
        due.append((began + WARM_UP_S + node.random.expovariate(1 / EVENT_S), 3 * number + 2, node.event))
    heapq.heapify(due)
    report_at = began
    while True:
        now = time.monotonic()
        if now >= report_at:
            counts = [node.sink.counts for node in nodes]
            sums = sum(one.connected for one in counts), sum(one.connections for one in counts), sum(one.n_sent for one in nodes)
            print(json.dumps([time.time(), *sums]), flush=True)
            report_at = now + REPORT_S
        at, number, action = due[0]
        if at <= now:
            heapq.heapreplace(due, (max(at + action(), now), number, action))
        else:
            time.sleep(min(at, report_at) - now if min(at, report_at) > now else 0.0)


@dataclass
class Generators:
    """The processes, and what they have reported."""

    reports: list[deque[list[float]]] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def latest(self) -> tuple[int, int, int]:
        """Nodes connected, connections so far, messages so far."""
        found = [one[-1] for one in self.reports if one]
        return int(sum(one[1] for one in found)), int(sum(one[2] for one in found)), int(sum(one[3] for one in found))

    def since(self, at: float) -> list[tuple[float, int, int]]:
        """(time, nodes connected, connections so far) of all processes together, since then, in steps."""
        end, steps = time.time(), []
        while at < end:
            newest = [next((one for one in reversed(lines) if one[0] <= at), None) for lines in map(tuple, self.reports)]
            if all(newest):
                steps.append((at, *(int(sum(one[index] for one in newest if one is not None)) for index in (1, 2))))
            at += REPORT_S
        return steps  # type: ignore[return-value]


@contextmanager
def generators(config: MqttConfig, n_nodes: int, every_s: float) -> Iterator[Generators]:
    """All nodes, connected."""
    found = Generators()
    try:
        for first in range(0, n_nodes, NODES_PER_PROCESS):
            count = min(NODES_PER_PROCESS, n_nodes - first)
            words = ["--generate", config.model_dump_json(), str(first), str(count), str(every_s)]
            command = [sys.executable, "-m", "benchmarks.speed.broker", *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            lines: deque[list[float]] = deque(maxlen=int(300 / REPORT_S))
            found.processes.append(process)
            found.reports.append(lines)
            assert process.stdout is not None
            _read_in_background(process.stdout, lines)
        wait_until(lambda: found.latest()[0] == n_nodes, 120, what="the nodes")
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()


def _read_in_background(stream: IO[str], lines: "deque[list[float]]") -> None:
    threading.Thread(target=lambda: lines.extend(json.loads(line) for line in stream), daemon=True).start()


@contextmanager
def listener(port: int, path: Path, tls: list[str]) -> Iterator[None]:
    """mosquitto_sub, which writes each state with the time of its arrival."""
    command = [
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        *tls,
        "-q",
        "0",
        "-t",
        "stethos/+/+/state",
        "-R",
        "-F",
        "%U %p",
    ]
    with path.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def latencies_ms(path: Path) -> list[float]:
    """From publication to arrival."""
    found = []
    for line in path.read_text().splitlines():
        arrived, _, payload = line.partition(" ")
        if payload.endswith("}"):
            found.append(1e3 * (float(arrived) - json.loads(payload)["score"]))
    return sorted(found)


def measure(arguments: argparse.Namespace) -> Iterator[Table]:
    """The tables."""
    with ExitStack() as stack:
        load, broker, overview, plant = measure_load(stack, arguments)
        columns = [f"{arguments.nodes} nodes, a state every {arguments.every:g} s{', TLS' if arguments.tls else ''}", "measured"]
        yield Table("load", columns, list(load.items()))
        columns = ["broker away, s", "half of the nodes back after, s", "90 %", "all", "most connections in a second"]
        rows = (measure_restart(broker, overview, plant, n_nodes=arguments.nodes, down_s=down_s) for down_s in arguments.down)
        yield Table("restart", [*columns, "overview knows all after, s"], rows)


def measure_load(stack: ExitStack, arguments: argparse.Namespace) -> tuple[dict[str, str], Broker, Overview, Generators]:
    """Run the plant. Returns what it costs, in words, and the running programs."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    broker = Broker(folder, settings=SETTINGS)
    mqtt: dict[str, Any] = {}
    tls: list[str] = []
    if arguments.tls:
        authority = Authority(folder)
        made = authority.sign("broker", host="127.0.0.1")
        broker.settings += f"cafile {authority.ca}\ncertfile {made.certificate}\nkeyfile {made.key}\n"
        mqtt = {"tls": {"ca": str(authority.ca)}}
        tls = ["--cafile", str(authority.ca)]
    stack.callback(broker.kill)
    broker.start()
    overview = Overview(folder / "fleet", broker_port=broker.port, mqtt=mqtt)
    stack.enter_context(overview.open(passwords=False))
    config = MqttConfig.model_validate({"port": broker.port, "reconnect_min_s": arguments.reconnect, **mqtt})
    plant = stack.enter_context(generators(config, arguments.nodes, arguments.every))
    time.sleep(WARM_UP_S)
    mosquitto = next(one for one in psutil.Process().children() if one.name() == "mosquitto")
    programs = {"mosquitto": mosquitto, "overview": psutil.Process(overview.pid)}
    before = {name: sum(one.cpu_times()[:2]) for name, one in programs.items()}
    path, sent, began = folder / "states", plant.latest()[2], time.monotonic()
    with listener(broker.port, path, tls):
        time.sleep(arguments.seconds)
        took_s = time.monotonic() - began
    n_sent = plant.latest()[2] - sent
    found = latencies_ms(path)
    fleet = overview.fleet()
    p50, p99 = (found[int(q * (len(found) - 1))] for q in (0.5, 0.99))
    load = {
        "published": f"{n_sent / took_s:.0f} messages/s for {took_s:.0f} s",
        "states seen by a subscriber": f"{len(found)}",
        "latency of a state through the broker": f"{p50:.1f} ms median, {p99:.1f} ms p99, {found[-1]:.1f} ms at most",
    }
    for name, one in programs.items():
        cpu = 100 * (sum(one.cpu_times()[:2]) - before[name]) / took_s
        load[name] = f"{cpu:.1f} % of a core, {one.memory_full_info().uss / 1e6:.0f} MB"
    known = sum(row["kind"] != "unknown" for row in fleet["rows"].values())
    load["machines on the overview"] = f"{len(fleet['rows'])}, {known} known, {fleet['lost']} messages lost"
    return load, broker, overview, plant


def measure_restart(broker: Broker, overview: Overview, plant: Generators, *, n_nodes: int, down_s: float) -> list[object]:
    """Stop the broker and start it again. Returns a row about how the nodes come back."""
    broker.stop()
    wait_until(lambda: plant.latest()[0] == 0, 60, what="all nodes gone")
    time.sleep(down_s)
    connections = plant.latest()[1]
    broker.start()
    began = time.time()
    wait_until(lambda: plant.latest()[0] == n_nodes, 300, what="all nodes back")
    wait_until(lambda: all(one["kind"] != "unknown" for one in overview.fleet()["rows"].values()), 180, what="all machines known")
    overview_s = time.time() - began
    steps = plant.since(began)
    back = {share: next(at - began for at, n, _ in steps if n >= share * n_nodes) for share in (0.5, 0.9, 1.0)}
    window = round(1.0 / REPORT_S)
    counts = [n - connections for _, _, n in steps]
    peak = max(now - (counts[i - window] if i >= window else 0) for i, now in enumerate(counts))
    return [f"{down_s:g}", *(f"{seconds:.1f}" for seconds in back.values()), peak, f"{overview_s:.1f}"]


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--generate"]:
        config, first, count, every = sys.argv[2:]
        generate(MqttConfig.model_validate_json(config), int(first), int(count), float(every))
        return
    parser = make_parser(__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, metavar="S")
    parser.add_argument("--down", type=float, nargs="*", default=[2.0, 20.0], metavar="S")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--reconnect", type=float, default=1.0, metavar="S", help="mqtt.reconnect_min_s of the nodes")
    arguments = parser.parse_args()
    publish(measure(arguments), arguments.json)


if __name__ == "__main__":
    main()
