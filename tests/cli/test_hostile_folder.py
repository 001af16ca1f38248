"""Commands never run code from the folder in which they are started."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from monitor.daemon.bundles.adaptation_job import AdaptationJob
from monitor.mqtt.messages import Calibrate
from tests.conftest import ROOT

SHADOWED = ("json", "runpy", "sitecustomize", "usercustomize", "site", "numpy", "sounddevice", "pydantic", "tqdm", "threading")
SCRIPT = "import sys\nfrom monitor.cli.main import main\nsys.exit(main())\n"  # as pip installs it


@pytest.fixture
def hostile(tmp_path: Path, demo_bundle: Path) -> Path:
    """A folder with modules and packages of all names that a command could import. Each leaves a line in `ran`."""
    folder = tmp_path / "hostile"
    text = f"import os\nopen({str(tmp_path / 'ran')!r}, 'a').write(__name__ + ' in ' + ' '.join(os.sys.argv) + chr(10))\n"
    for package in ("monitor", "monitor/audio", "monitor/bundle", "monitor/cli", "train"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(text)
    for module in (*SHADOWED, "monitor/audio/capture", "monitor/bundle/trial", "monitor/cli/main", "monitor/errors"):
        (folder / f"{module}.py").write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "monitor").write_text(SCRIPT)
    (tmp_path / "monitor.yaml").write_text(
        f"node: pi\nstate_dir: state\nruntime_dir: run\nmqtt: {{port: 1}}\nmachines: {{fan: {{bundle: {demo_bundle}}}}}\n"
    )
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "devices",
        "devices --level default --seconds 0.1",
        "record --machine fan --minutes 1 --out out",
        "learn --yes --machine fan --minutes 5.5",
        "calibrate --machine fan",
        "calibrate --machine fan --undo",
        "check-config",
        "mqtt-test",
        "support --out support.zip",
        "--replay {root}/demo/fan-normal.flac",
        "--version",
        "",
    ],
)
def test_no_command_runs_code_from_the_current_folder(hostile: Path, words: str) -> None:
    config = [] if words == "--version" else ["--config", str(hostile.parent / "monitor.yaml")]
    command = [sys.executable, str(hostile.parent / "bin" / "monitor"), *config, *words.format(root=ROOT).split()]
    process = subprocess.Popen(
        command,
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=20 if words else 5)  # the daemon starts its capture process and stays
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert ran(hostile) == [], output
    assert "Traceback" not in output
    if "fan" in words or "devices" in words:  # these start a capture process; without a sound card, none is found
        assert process.returncode in (0, 1, 2), output


def test_a_calibration_over_mqtt_runs_no_code_from_the_folder_of_the_service(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile)
    ended: list[Sequence[object]] = []

    async def run() -> None:
        job = AdaptationJob(hostile.parent / "monitor.yaml", os.environ, lambda *result: ended.append(result))
        job.start("fan", Calibrate(undo=True))
        while not ended:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert ended[0][2] == "nothing was learned or calibrated here for fan"
    assert ran(hostile) == []


def ran(hostile: Path) -> list[str]:
    """Modules that ran."""
    path = hostile.parent / "ran"
    return path.read_text().splitlines() if path.exists() else []


def test_every_child_process_is_started_by_the_one_command() -> None:
    starters = {path.name for path in (ROOT / "monitor").rglob("*.py") if re.search(r"sys\.executable,", path.read_text())}
    assert starters == {"child_process.py"}
