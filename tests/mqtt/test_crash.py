"""kill -9 at random moments: nothing lost that was committed, nothing left open, nothing altered."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.broker import running_broker
from tests.conftest import ROOT
from tests.mqtt.anomalies import keys, without_repeats
from tests.proxy import Proxy
from tests.subscriber import Subscriber
from tests.waiting import wait_until

N_KILLS = 50 if os.environ.get("LONG_TESTS") else 4


def node(port: int, state_dir: Path, run: str, seed: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.mqtt.crashing_node", str(port), str(state_dir), run, seed]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def committed(state_dir: Path, copy: Path) -> list[str]:
    """The events in the outbox of a dead process, looked at in a copy."""
    copy.mkdir()
    for file in state_dir.glob("outbox.sqlite*"):
        shutil.copy(file, copy)
    with sqlite3.connect(copy / "outbox.sqlite") as outbox:
        tables = outbox.execute("SELECT count(*) FROM sqlite_master WHERE name = 'message'").fetchone()[0]
        return [payload for (payload,) in outbox.execute("SELECT payload FROM message").fetchall()] if tables else []


def test_a_node_that_is_killed_again_and_again_loses_nothing_and_leaves_nothing_open(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(5)
    kept: list[str] = []
    p99s_ms: list[float] = []
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        way = Proxy(broker.port)
        for run in range(N_KILLS):
            way.become("refuses" if run % 3 == 1 else "fair")
            process = node(way.port, tmp_path, f"run-{run:02d}", str(run))
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 1.5))
            process.kill()
            lines = process.communicate()[0].splitlines()
            p99s_ms += [float(line) for line in lines[-1:] if line != "None"]
            kept += committed(tmp_path, tmp_path / f"copy-{run}")
        way.become("fair")
        last = node(way.port, tmp_path, "last", "drain")
        assert last.wait(60) == 0
        wait_until(lambda: watcher.on("stethos/hall-2/status")[-1:] == ["offline"])
        heard = [message.payload for message in watcher.messages if message.topic.endswith("/event")]
    told = without_repeats(heard)
    assert set(kept) <= set(told)
    lives: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for key, seq, kind in keys(told):
        lives[key].append((seq, kind))
    for life in lives.values():
        assert [seq for seq, _ in life] == list(range(len(life)))
        assert [kind for _, kind in life] == ["start", *["update"] * (len(life) - 2), "end"]
    messages = [json.loads(payload) for payload in told]
    n_restarted = sum(message["end_reason"] == "restarted" for message in messages)
    assert n_restarted > 0
    for machine in ("fan", "pump"):
        order = [(message["summary"], message["seq"]) for message in messages if message["machine"] == machine]
        numbered = [
            (summary.split(":")[0].split("/")[0], int(summary.split(":")[0].split("/")[1]), seq) for summary, seq in order
        ]
        assert numbered == sorted(numbered)
    record_property(
        "figures",
        f"{N_KILLS} kills: {len(told)} events, {len(lives)} anomalies ({n_restarted} ended as restarted), "
        f"{len(heard) - len(told)} repeats, 0 lost; p99 of decision to commit {max(p99s_ms):.1f} ms at worst",
    )
