"""The layers: who may import whom, and what the device never imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "monitor").rglob("*.py"), *(ROOT / "train").rglob("*.py")])

ALLOWED = {
    "monitor.core": {"monitor.core"},
    "monitor.bundle": {"monitor.bundle", "monitor.core"},
    "monitor.sources": {"monitor.sources", "monitor.core"},
    "monitor.sinks": {"monitor.sinks", "monitor.config", "monitor.core"},
    "monitor.config": {"monitor.config", "monitor.bundle", "monitor.core"},
    "monitor.service": {
        "monitor",  # its version
        "monitor.service",
        "monitor.sources",
        "monitor.sinks",
        "monitor.bundle",
        "monitor.config",
        "monitor.core",
    },
    "monitor.cli": {
        "monitor",
        "monitor.service",
        "monitor.sources",
        "monitor.sinks",
        "monitor.bundle",
        "monitor.config",
        "monitor.core",
    },
    "monitor": set(),
    "train": {"train", "monitor", "monitor.core", "monitor.bundle", "monitor.sources"},
}
ONLY_IN = {
    "ai_edge_litert": {"monitor/bundle/interpreter.py"},
    "tflite_runtime": {"monitor/bundle/interpreter.py"},
    "paho": {"monitor/sinks/mqtt.py"},
    "sounddevice": {"monitor/sources/capture.py"},
}
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
    assert ours <= ALLOWED[layer(module_of(path))]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    for library, homes in ONLY_IN.items():
        if library in roots:
            assert relative(path) in homes
    if relative(path).startswith("monitor/"):
        assert not roots & NEVER_IN_MONITOR


@pytest.mark.parametrize("path", [path for path in FILES if "core" in path.parts], ids=relative)
def test_the_core_imports_numpy_and_the_standard_library_alone(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    assert roots <= {"monitor", "numpy", *sys.stdlib_module_names}
    impure = {"time", "threading", "socket", "subprocess", "asyncio", "random", "logging", "pathlib", "os", "sys"}
    assert not roots & impure


def test_a_forbidden_arrow_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from monitor.sinks.mqtt import MqttPublisher\nimport scipy.signal\n")
    assert {layer(module) for module in imports(bad)} == {"monitor.sinks", "scipy.signal"}
    assert not {layer("monitor.sinks.mqtt")} <= ALLOWED["monitor.core"]


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
from monitor.cli import main
sys.exit(main(["--replay", "demo/fan-normal.flac", "--model", "models/demo-fan"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert '"verdict": "normal"' in done.stdout


def test_replay_alone_does_not_load_the_network() -> None:
    code = """
import sys
from monitor.cli import main
main(["--replay", "demo/fan-normal.flac", "--model", "models/demo-fan"])
sys.exit(not sys.modules.keys().isdisjoint({"paho", "asyncio", "ssl"}))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False).returncode == 0
