"""The cost of the service with live sound: CPU, memory, wake-ups, time to READY, and latency of events.

    python -m benchmarks.speed.daemon [--minutes 2]

The real daemon runs on real PortAudio (a PulseAudio monitor, whose client work is included) and a real mosquitto.
CPU is the on-CPU time of all threads according to the kernel's scheduler. The latency of an event is measured from the moment
at which a second program (benchmarks/speed/ear.py) received the last sample of the deciding tick, `ts`. It does not include the
delay of the decision itself, which lies before that moment.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import soundfile
from scipy.signal import resample_poly

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.ear import RATE_HZ, Ear
from benchmarks.speed.quick_bundle import train_bundle
from monitor.arrays import F32
from monitor.bundle.manifest import read_manifest
from monitor.daemon.control.shared_microphone import open_shared
from monitor.daemon.control.socket import NAME, request
from tests.broker import PERSISTENT, running_broker
from tests.daemon.daemon_process import DaemonProcess
from tests.rig import Rack, virtual_microphones
from tests.subscriber import Message, Subscriber
from tests.waiting import wait_until
from train.synth import Fan, Scene

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "demo-fan"
WIDE_HZ = 48_000
NOISE = 1e-4  # of full scale, in the bands above the demo's 8 kHz
CLIENT = "threaded-ml"  # the sound server's client thread, which a sound card does not need
LEARNED_MINUTES = 10
WARM_UP_S, FAULTY_S, AFTER_S = 45, 40, 60
STARTS = 5


@dataclass(frozen=True)
class Arrangement:
    """Machines, each on a separate channel of one of the devices."""

    name: str
    n_devices: int
    n_channels: int
    rate_hz: int = RATE_HZ

    def machines(self, bundle: Path) -> dict[str, str]:
        """The configuration of each machine."""
        places = [(device, channel) for device in range(self.n_devices) for channel in range(1, self.n_channels + 1)]
        same = f"bundle: {bundle}, microphone_rate_hz: {self.rate_hz}"
        return {
            f"m{i}": f"{{microphone: 'name:mic{device}', channel: {channel}, {same}}}"
            for i, (device, channel) in enumerate(places)
        }


ARRANGEMENTS = (
    Arrangement("1 machine", 1, 1),
    Arrangement("1 machine, `wide` at 48 kHz", 1, 1, WIDE_HZ),
    Arrangement("4 machines, 1 device", 1, 4),
    Arrangement("4 machines, 4 devices", 4, 1),
    Arrangement("16 machines, 1 device", 1, 16),
)


@dataclass(frozen=True)
class Usage:
    """The resources that some processes have used so far."""

    at_s: float
    cpu_s: float
    wake_ups: int
    wake_ups_of_client: int  # of the sound server, among them

    @staticmethod
    def of(pids: list[int]) -> "Usage":
        """The usage up to now."""
        tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        cpu_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
        clients = [task for task in tasks if (task / "comm").read_text().strip() == CLIENT]
        return Usage(time.monotonic(), cpu_ns * 1e-9, _wake_ups(tasks), _wake_ups(clients))


def _wake_ups(tasks: list[Path]) -> int:
    return sum(_field(task / "status", "voluntary_ctxt_switches") for task in tasks)


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", type=int, nargs="+", default=range(len(ARRANGEMENTS)), help="some arrangements, counted from 0")
    arguments = parser.parse_args()
    measured = [ARRANGEMENTS[i] for i in arguments.only]
    columns = [measure(arrangement, arguments.minutes) for arrangement in measured]
    rows = [[row, *(column[row] for column in columns)] for row in columns[0]]
    table = Table("live", ["", *(one.name for one in measured)], rows)
    sound = f"{arguments.minutes:g} minutes of live sound, bundle {BUNDLE.name} at {RATE_HZ} Hz; load {os.getloadavg()[0]:.1f}"
    publish([table, sound], arguments.json)


def measure(arrangement: Arrangement, minutes: float) -> dict[str, str]:
    """The rows of a column."""
    with running(arrangement) as (rack, daemon, listener):
        ready_s = []
        for _ in range(STARTS):
            daemon.told.clear()
            daemon.start()
            ready_s.append(daemon.ready())
            daemon.stop()
        daemon.start().ready()
        scene = write_scene(daemon.folder / "scene.wav", arrangement, minutes)
        ears = [Ear(microphone, rate_hz=arrangement.rate_hz) for microphone in rack.microphones]
        for microphone in rack.microphones:
            microphone.play(scene)
        machines = [f"m{i}" for i in range(arrangement.n_devices * arrangement.n_channels)]
        for machine in machines:
            wait_until(lambda m=machine: _is_normal(listener.ending(f"{m}/state")), within_s=WARM_UP_S, what=f"{machine} normal")  # type: ignore[misc]
        used = cost(daemon.pid, 60.0 * minutes)
        n_events = 2 * len(machines)
        wait_until(lambda: len(listener.events()) >= n_events, within_s=WARM_UP_S + FAULTY_S + AFTER_S + 60, what="events")
        late = lateness(arrangement, daemon, listener, ears)
        for ear in ears:
            ear.close()
        return {**used, f"process start to READY, median of {STARTS}": f"{statistics.median(ready_s):.2f} s (< 2)", **late}


@contextmanager
def running(arrangement: Arrangement) -> Iterator[tuple[Rack, DaemonProcess, Subscriber]]:
    """Everything except the daemon's process."""
    names = [f"mic{device}" for device in range(arrangement.n_devices)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "daemon").mkdir()
        with (
            virtual_microphones(folder / "audio", *names, rate_hz=arrangement.rate_hz, channels=arrangement.n_channels) as rack,
            running_broker(folder, PERSISTENT) as broker,
            Subscriber(broker, topic="stethos/#", session="listener") as listener,
            DaemonProcess(folder / "daemon", rack.environment) as daemon,
        ):
            bundle = BUNDLE if arrangement.rate_hz == RATE_HZ else wide_bundle(folder)
            machines = "".join(f"  {machine}: {settings}\n" for machine, settings in arrangement.machines(bundle).items())
            daemon.config.write_text(f"node: pi\nmqtt: {{port: {broker.port}}}\nmachines:\n{machines}")
            yield rack, daemon, listener


def wide_bundle(folder: Path) -> Path:
    """A bundle of `wide` for the demo's fan at 48 kHz."""
    samples = np.concatenate(list(Scene(machine=Fan(0), take=50).chunks(60.0 * LEARNED_MINUTES)))
    return train_bundle("wide", at_rate(samples, WIDE_HZ), folder, rate_hz=WIDE_HZ)


def at_rate(samples: F32, rate_hz: int) -> F32:
    """The demo's sound at another rate, with noise in the bands above."""
    if rate_hz == RATE_HZ:
        return samples
    resampled = resample_poly(samples, rate_hz, RATE_HZ)
    return np.array(resampled + NOISE * np.random.default_rng(0).standard_normal(len(resampled)), np.float32)


def write_scene(path: Path, arrangement: Arrangement, minutes: float) -> Path:
    """Write the scene for every channel: long enough normal sound of the demo, then its fault, then normal sound again."""
    normal, _ = soundfile.read(ROOT / "demo" / "fan-normal.flac", dtype="float32")
    whole, _ = soundfile.read(ROOT / "demo" / "fan-bearing.flac", dtype="float32")
    faulty = np.resize(whole[60 * RATE_HZ : 80 * RATE_HZ], FAULTY_S * RATE_HZ)
    before = np.resize(normal, round((WARM_UP_S + 60 * minutes) * RATE_HZ))
    mono = at_rate(np.concatenate((before, faulty, np.resize(normal, AFTER_S * RATE_HZ))), arrangement.rate_hz)
    soundfile.write(path, np.repeat(mono[:, None], arrangement.n_channels, axis=1), arrangement.rate_hz, subtype="PCM_16")
    return path


def cost(pid: int, seconds: float) -> dict[str, str]:
    """The resources that the daemon and its children use, from now on."""
    children = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    before = [Usage.of([pid]), Usage.of(children)]
    time.sleep(seconds)
    after = [Usage.of([pid]), Usage.of(children)]
    wall_s = after[0].at_s - before[0].at_s
    cpu = [100 * (b.cpu_s - a.cpu_s) / wall_s for a, b in zip(before, after, strict=True)]
    wakes = [(b.wake_ups - a.wake_ups) / wall_s for a, b in zip(before, after, strict=True)]
    of_client = sum(b.wake_ups_of_client - a.wake_ups_of_client for a, b in zip(before, after, strict=True)) / wall_s
    pss = [sum(_field(Path(f"/proc/{one}/smaps_rollup"), "Pss") for one in pids) / 1000 for pids in ([pid], children)]
    threads = [sum(1 for one in pids for _ in Path(f"/proc/{one}/task").iterdir()) for pids in ([pid], children)]
    return {
        "CPU, share of one core (daemon + captures)": f"{sum(cpu):.2f} % ({cpu[0]:.2f} + {cpu[1]:.2f}) (< 2)",
        "PSS": f"{sum(pss):.1f} MB ({pss[0]:.1f} + {pss[1]:.1f}) (< 100)",
        "threads": f"{sum(threads)} ({threads[0]} + {threads[1]})",
        "wake-ups a second": f"{sum(wakes):.0f} ({wakes[0]:.0f} + {wakes[1]:.0f})",
        "without the sound server's client thread": f"{sum(wakes) - of_client:.0f}",
    }


def lateness(arrangement: Arrangement, daemon: DaemonProcess, listener: Subscriber, ears: list[Ear]) -> dict[str, str]:
    """The time from the end of the deciding tick being played to the event being received, and the error of its `ts`."""
    control = daemon.folder / "run" / NAME
    manifest = read_manifest(BUNDLE if arrangement.rate_hz == RATE_HZ else daemon.folder.parent / "wide")
    tick_s = manifest.scorer_spec.tick_s
    to_utc = time.time() - time.monotonic()
    after_ts, off = [], []
    for device, ear in enumerate(ears):
        stream = open_shared(control, f"name:mic{device}")
        assert stream is not None
        began_s = ear.played_at(stream)
        stream.close()
        for heard in listener.ending("/event"):
            if int(heard.json["machine"][1:]) // arrangement.n_channels == device:
                ts = datetime.fromisoformat(heard.json["ts"].replace("Z", "+00:00")).timestamp()
                after_ts.append(heard.at + to_utc - ts)
                ticks = (ts - began_s) / tick_s  # ticks are consecutive from the first frame of the capture on
                off.append((ticks - round(ticks)) * tick_s)
    reply = request(control, {"do": "status"})
    assert reply is not None
    overruns = sum(one["overruns"] for one in reply.body["microphones"])
    late = [a + b for a, b in zip(after_ts, off, strict=True)]
    return {
        "played to received, beyond the decision's own delay": f"{_range(late)} ms, {len(late)} events (< 300)",
        "`ts` against what was played": f"{_range(off)} ms" + (f"; not to be trusted, {overruns} overruns" if overruns else ""),
    }


def _range(seconds: list[float]) -> str:
    return f"{1000 * min(seconds):.0f} to {1000 * max(seconds):.0f}"


def _is_normal(heard: list[Message]) -> bool:
    return bool(heard) and heard[-1].json["state"] == "normal"


def _field(path: Path, name: str) -> int:
    """The number in a line of one of /proc's files."""
    return int(next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
