"""Hours of a stream within minutes: the page's memory does not grow."""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium.webdriver import Chrome

from tests.broker import free_port
from tests.conftest import ROOT
from tests.waiting import wait_until
from tests.web.browser.looking import wait_for
from tests.web.browser.page_rig import Node

HOURS = 12 if os.environ.get("LONG_TESTS") else 4
FULL = 0.75 * HOURS  # from when the page keeps as many events as it ever does
PER_SECOND = 400  # simulated seconds each second; a page that cannot follow loses frames, as always
EVENT_EVERY_S = 5 * HOURS
BEGAN = datetime(2026, 11, 21, tzinfo=timezone.utc)


def recorded(node: Node) -> list[dict[str, Any]]:
    """The first lines that the service sends to somebody who watches: a snapshot, with an event."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(node.folder / "run" / "control.sock"))
        connection.sendall(b'{"do": "watch", "frames": ["fan"]}\n')
        lines = connection.makefile("rb")
        json.loads(lines.readline())
        seen: dict[tuple[str, str | None], dict[str, Any]] = {}
        while not {("frame", "fan"), ("event", "fan")} <= set(seen):
            line = json.loads(lines.readline())
            seen[(line["kind"], line.get("machine"))] = line
        return [line for line in seen.values() if line["kind"] in ("node", "machine", "state", "event", "frame")]


class FastService:
    """Sends to the page what the service of `recorded` would send within hours, at `PER_SECOND` times its pace."""

    def __init__(self, path: Path, lines: list[dict[str, Any]]) -> None:
        self._snapshot = [line for line in lines if line["kind"] != "frame"]
        self._by_kind = {line["kind"]: line for line in lines if line.get("machine") == "fan"}
        self._go = threading.Event()
        self.simulated_s = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def go(self) -> None:
        self._go.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = json.loads(connection.makefile("rb").readline())
            if request["do"] == "watch":
                self._watch(connection, bool(request.get("frames")))
            elif request["do"] == "history":
                self._send(connection, {"machine": request["machine"], "step_s": 10, "points": []})
            else:
                self._send(connection, {"events": []} if request["do"] == "events" else {"error": "not now"})

    def _watch(self, connection: socket.socket, frames: bool) -> None:
        self._send(connection, {"node": "workshop"}, *self._snapshot)
        while not self._go.wait(1.0):
            self._send(connection, self._by_kind["state"])
        began, second = time.monotonic(), 0
        while second < HOURS * 3600:
            second += 1
            time.sleep(max(0.0, began + second / PER_SECOND - time.monotonic()))
            now = (BEGAN + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            if frames:
                self._send(connection, self._changed("frame", t=now))
                self.simulated_s = second
                continue
            self._send(connection, self._changed("state", rms_dbfs=-30 - second % 7, ratio=3 + second % 5))
            if second % EVENT_EVERY_S == 0:
                number = f"{second // EVENT_EVERY_S:08x}"
                identity = f"{number}-0000-5000-8000-000000000000"
                for kind, seq in (("start", 0), ("end", 1)):
                    self._send(connection, self._changed("event", id=identity, event_type=kind, seq=seq, onset_ts=now, ts=now))
        while True:
            self._send(connection, self._by_kind["state"])
            time.sleep(1.0)

    def _changed(self, kind: str, **values: Any) -> dict[str, Any]:
        line = self._by_kind[kind]
        return {**line, "data": {**line["data"], **values}}

    @staticmethod
    def _send(connection: socket.socket, *lines: dict[str, Any]) -> None:
        connection.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.fixture
def fast(node: Node, tmp_path: Path) -> Iterator[tuple[FastService, int]]:
    """The page of a service that hurries, and its port."""
    wait_until(lambda: node.get("api/machines/fan")["event"], within_s=120, what="the alarm")
    lines = recorded(node)
    assert len(base64.b64decode(next(line for line in lines if line["kind"] == "frame")["data"]["levels"])) > 1000
    (tmp_path / "run").mkdir()
    service = FastService(tmp_path / "run" / "control.sock", lines)
    port = free_port()
    settings = {
        "runtime_dir": str(tmp_path / "run"),
        "web": {"port": port, "state_dir": str(tmp_path / "web")},
        "machines": {
            name: {"bundle": str(ROOT / "models" / "demo-fan"), "channel": at} for at, name in ((1, "fan"), (2, "pump"))
        },
    }
    (tmp_path / "monitor.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "monitor.cli.main", "web", "--config", str(tmp_path / "monitor.yaml")]
    with (tmp_path / "log").open("wb") as log:
        page = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        yield service, port
    finally:
        page.terminate()
        page.wait(15)
        service.close()


def heap_mb(driver: Chrome) -> tuple[float, float]:
    """Memory of the page's scripts in MB and the number of its DOM nodes, after collecting garbage."""
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    metrics = {one["name"]: one["value"] for one in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6, metrics["Nodes"]


def test_hours_do_not_grow_the_memory(
    driver: Chrome, fast: tuple[FastService, int], record_property: Callable[[str, object], None]
) -> None:
    service, port = fast
    with socket.socket() as probe:
        wait_until(lambda: probe.connect_ex(("127.0.0.1", port)) in (0, 106), within_s=60, what="the page")
    driver.execute_cdp_cmd("Performance.enable", {})
    driver.get(f"http://127.0.0.1:{port}/m/fan")
    wait_for(driver, "Sound now", "live")
    service.go()
    figures: dict[float, tuple[float, float]] = {}
    for hour in (HOURS / 12, FULL, HOURS):
        wait_until(lambda hour=hour: service.simulated_s >= hour * 3600, within_s=600, what=f"{hour:g} simulated hours")  # type: ignore[misc]
        figures[hour] = heap_mb(driver)
    wait_for(driver, "live")

    def worked_off() -> bool:
        figures[HOURS] = heap_mb(driver)
        return figures[HOURS][0] < figures[FULL][0] + 2.0 and figures[HOURS][1] < figures[FULL][1] + 500

    wait_until(worked_off, within_s=60, what=f"the page to have worked off what it received; {figures}")
    record_property("figures", "; ".join(f"{hour:g} h: {mb:.1f} MB, {nodes:.0f} nodes" for hour, (mb, nodes) in figures.items()))
    assert figures[HOURS][0] < 20
