"""Whatever happens to the page, the service loses no sample and scores the same."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from monitor.child_process import child_command
from monitor.daemon.control.socket import NAME, request
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.watching import Watching
from tests.rig import virtual_microphone
from tests.waiting import wait_until
from tests.web.page_process import ADMIN, ROOT, PageProcess, running_page

FLOOD_S = 12.0
N_TICKS = 30


def status(run: Path) -> dict[str, Any]:
    reply = request(run / NAME, {"do": "status"}, timeout_s=20)
    assert reply is not None
    return reply.body


def flood(page: PageProcess) -> dict[str, int]:
    """Let 200 clients loose on the page; what they were answered."""
    cookie = page.client().login(ADMIN).cookie
    command = [sys.executable, "-m", "tests.web.live.flood", str(page.port), str(cookie), str(FLOOD_S)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=page.environment, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    answers: dict[str, int] = json.loads(done.stdout)
    return answers


def test_a_flood_and_a_kill_of_the_page_cost_no_sample_of_a_microphone(
    tmp_path: Path, demo_bundle: Path, demo_normal: Path, record_property: Callable[[str, object], None]
) -> None:
    (tmp_path / "daemon").mkdir()
    with virtual_microphone(tmp_path / "audio", rate_hz=16_000) as microphone:
        daemon = DaemonProcess(tmp_path / "daemon", microphone.environment)
        machine = f"{{bundle: {demo_bundle}, microphone: 'name:mic', microphone_rate_hz: 16000}}"
        daemon.config.write_text(f"node: pi\nmqtt: {{port: 1}}\nmachines:\n  fan: {machine}\n")
        run = daemon.folder / "run"
        with daemon, running_page(tmp_path / "page", run=run) as page:
            daemon.start().ready()
            for _ in range(3):
                microphone.play(demo_normal)
            wait_until(lambda: status(run)["machines"]["fan"]["ratio"] is not None)
            before = counters(run)
            answers = flood(page)
            assert page.process is not None and page.process.poll() is None, page.log
            peak_mb = page.pss_mb()
            psutil.Process(page.pid).suspend()
            page.kill()
            page.start()
            client = page.client().login(ADMIN)
            wait_until(lambda: client.get("api/machines").status == 200)
            assert counters(run) == before
    assert "Traceback" not in page.log + daemon.log
    assert answers.get("200", 0) > 10
    figures = f"200 clients for {FLOOD_S:.0f} s: answers {dict(sorted(answers.items()))}; page {peak_mb:.0f} MB afterwards"
    record_property("figures", figures)
    assert peak_mb < 80


def counters(run: Path) -> list[dict[str, Any]]:
    """What was lost at each microphone."""
    return [{name: one[name] for name in ("overruns", "gap_s") if name in one} for one in status(run)["microphones"]]


@contextmanager
def playing_service(folder: Path) -> Iterator[Path]:
    """A service that hears the demo's fan from its first sample on; its runtime directory."""
    folder.mkdir()
    machine = f"{{bundle: {ROOT / 'models' / 'demo-fan'}, microphone: 'name:fan'}}"
    settings = f"node: pi\nmqtt: {{port: 1}}\nstate_dir: {folder}/state\nruntime_dir: {folder}/run\nmachines:\n  fan: {machine}\n"
    (folder / "monitor.yaml").write_text(settings)
    plan = json.dumps({"name:fan": [str(ROOT / "demo" / "fan-bearing.flac")]})
    command = child_command("monitor.demo.service", str(folder / "monitor.yaml"), plan)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        wait_until(lambda: (folder / "run" / NAME).exists(), what="the service")
        yield folder / "run"
    finally:
        process.kill()
        process.wait()


def ticks(run: Path, during: Callable[[], None] | None = None) -> list[tuple[str, float | None]]:
    """Levels and score of every tick after the latest frames at the connection; `during` is called when the first has come."""
    with Watching(run, frames="all") as watch:
        watch.until("frame")
        if during is not None:
            during()
        wait_until(lambda: len(watch.of("frame")) > N_TICKS, N_TICKS + 30.0)
        assert not watch.of("lost")
        return [(line["data"]["levels"], line["data"]["ratio"]) for line in watch.of("frame")[1:]]


def test_a_flood_changes_no_score(tmp_path: Path) -> None:
    with playing_service(tmp_path / "alone") as run:
        alone = ticks(run)
    flooded_at = tmp_path / "flooded"
    with running_page(tmp_path / "page", run=flooded_at / "run") as page, playing_service(flooded_at) as run:

        def disturb() -> None:
            flood(page)
            page.kill()

        began = time.monotonic()
        flooded = ticks(run, disturb)
        assert time.monotonic() - began > FLOOD_S
    levels = [one[0] for one in alone]
    shift = levels.index(flooded[0][0]) if flooded[0][0] in levels else -[one[0] for one in flooded].index(levels[0])
    pairs = list(zip(alone[max(0, shift) :], flooded[max(0, -shift) :], strict=False))
    assert len(pairs) > N_TICKS - 10
    assert all(one == other for one, other in pairs)
    assert len({ratio for _, ratio in flooded if ratio is not None}) > 10
