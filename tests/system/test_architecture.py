"""The rooms: allowed imports, and libraries that the device never imports."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "monitor").rglob("*.py"), *(ROOT / "train").rglob("*.py")])

GROUND = (
    "arrays",
    "errors",
    "block",
    "child_process",
    "files",
    "clock",
    "command_line",
    "json_lines",
    "log_limit",
    "shipped",
    "threads",
)
ROOMS = {  # which rooms each imports, beside itself and the ground; the list of rooms of docs/architecture.md
    "scoring": "",
    "explain": "scoring",
    "events": "scoring explain",
    "bundle": "scoring explain events",
    "audio": "",
    "config": "events",
    "monitor": "scoring explain events bundle config",
    "learning": "scoring explain events bundle",
    "releases": "events bundle",
    "mqtt": "events config",
    "clips": "scoring explain events bundle config",
    "history": "events config",
    "notify": "events config",
    "daemon": "scoring explain events bundle audio config monitor learning mqtt clips history notify",
    "update": "events bundle audio config monitor releases daemon",
    "web": "events audio config mqtt daemon",
    "demo": "audio daemon",
    "overview": "events config mqtt web",
    "cli": "scoring explain events bundle audio config monitor learning mqtt clips history notify daemon web demo "
    "releases update overview",
}
ALLOWED = {f"monitor.{room}": {f"monitor.{other}" for other in (room, *GROUND, *below.split())} for room, below in ROOMS.items()}
ALLOWED |= {f"monitor.{module}": {f"monitor.{other}" for other in GROUND} for module in GROUND}
ALLOWED["monitor"] = {f"monitor.{room}" for room in ("audio", "bundle", "errors", "events", "monitor")}  # the public face
NOT_IN_TRAIN = ("daemon", "cli", "mqtt", "clips", "history", "notify", "web", "demo", "update", "overview")
ALLOWED["train"] = {"train", *(f"monitor.{room}" for room in ROOMS if room not in NOT_IN_TRAIN)}
ALLOWED["train"] |= {f"monitor.{module}" for module in GROUND}
TRAIN_ROOMS = {  # the same for `train`, whose rooms import the public rooms of `monitor` as well
    "synth": "",
    "datasets": "",
    "features": "datasets",
    "recipes": "",
    "networks": "features recipes",
    "calibration": "datasets features recipes",
    "fitting": "calibration datasets features networks recipes",
    "evaluation": "calibration datasets networks",
    "report": "datasets evaluation features",
    "release": "",
    "fleet": "datasets evaluation fitting recipes report",
    "cli": "calibration datasets evaluation features fitting fleet recipes release report synth",
}
ONLY_IN = {
    "ai_edge_litert": {"monitor/bundle/interpreter.py"},
    "tflite_runtime": {"monitor/bundle/interpreter.py"},
    "tuf": {"monitor/update/repository.py", "train/release/repository.py"},
    "paho": {"monitor/mqtt/client.py"},
    "sounddevice": {"monitor/audio/capture.py"},
    "apprise": {"monitor/notify/send.py"},
    "prometheus_client": {"monitor/web/metrics.py"},
    "uvicorn": {"monitor/web/server.py"},
    "sqlalchemy": {"monitor/overview/history.py", "monitor/overview/tables.py"},
}
PURE = ("scoring", "explain", "events")
NEVER_IN_MONITOR = {"tensorflow", "keras", "scipy", "sklearn", "matplotlib", "librosa", "train"}


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "train" or len(parts) == 1 else ".".join(parts[:2])


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_inwards(path: Path) -> None:
    ours = {layer(module) for module in imports(path) if module.split(".")[0] in ("monitor", "train")}
    assert ours - {"monitor"} <= ALLOWED.get(layer(module_of(path)), set())  # `monitor` itself holds the version


@pytest.mark.parametrize("path", [path for path in FILES if relative(path).startswith("train/")], ids=relative)
def test_imports_within_train_go_one_way(path: Path) -> None:
    rooms = {module.split(".")[1] for module in imports(path) if module.startswith("train.")}
    room = module_of(path).split(".")[1:2]
    assert not room or rooms <= {room[0], *TRAIN_ROOMS[room[0]].split()}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    for library, homes in ONLY_IN.items():
        if library in roots:
            assert relative(path) in homes
    if relative(path).startswith("monitor/"):
        assert not roots & NEVER_IN_MONITOR


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[-2] in PURE or path.parts[-3] in PURE], ids=relative)
def test_the_pure_rooms_import_numpy_and_the_standard_library_alone(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    assert roots <= {"monitor", "numpy", *sys.stdlib_module_names}
    impure = {"time", "threading", "socket", "subprocess", "asyncio", "random", "logging", "pathlib", "os", "sys"}
    assert not roots & impure


def test_a_forbidden_arrow_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from monitor.mqtt.outbox import Outbox\nimport scipy.signal\n")
    assert {layer(module) for module in imports(bad)} == {"monitor.mqtt", "scipy.signal"}
    assert layer("monitor.mqtt.outbox") not in ALLOWED["monitor.scoring"]


def test_the_device_runs_with_the_workstations_libraries_absent() -> None:
    code = """
import importlib.abc, pkgutil, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "scipy", "sklearn", "matplotlib", "librosa", "train", "pandas"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import monitor
for module in pkgutil.walk_packages(monitor.__path__, "monitor."):
    __import__(module.name)
from monitor.cli.main import main
sys.exit(main(["--replay", "demo/fan-normal.flac", "--model", "models/demo-fan"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert '"verdict": "normal"' in done.stdout


def test_a_plain_replay_imports_no_more_than_it_needs() -> None:
    code = """
import sys
from monitor.cli.main import main
main(["--replay", "demo/fan-normal.flac", "--model", "models/demo-fan"])
print(*sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    modules = done.stdout.splitlines()[-1].split()
    assert not {"paho", "asyncio", "ssl"} & {module.split(".")[0] for module in modules}
    assert not {"monitor.learning", "monitor.clips", "monitor.mqtt", "monitor.daemon", "monitor.history"} & {
        layer(module) for module in modules
    }


def test_importing_the_package_is_fast_and_has_no_side_effects() -> None:
    code = """
import os, sys, time
environment, began = dict(os.environ), time.perf_counter()
import monitor
took_s = time.perf_counter() - began
assert environment == dict(os.environ)
assert "numpy" not in sys.modules
assert set(monitor.__all__) <= set(dir(monitor))
assert all(hasattr(monitor, name) for name in monitor.__all__)
print(took_s)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 0.1


def test_the_example_of_the_readme_works(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"^```python\n(from monitor import .*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert code.count("\n") <= 10
    (tmp_path / "fan.wav").write_bytes((ROOT / "demo" / "fan-bearing.flac").read_bytes())
    (tmp_path / "models").symlink_to(ROOT / "models")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "dB more than usual at" in done.stdout.splitlines()[0]
