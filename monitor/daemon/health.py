"""How the node itself is: what `health` and `info` publish."""

import platform
import shutil
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from monitor import __version__
from monitor.events.event import rfc3339

PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy", "sounddevice", "soundfile", "soxr", "paho-mqtt", "pydantic")


class Health:
    """Figures of this process and its children, and of the computer; `read` is called about once a minute."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._process = psutil.Process()
        self._began = time.monotonic()
        self._cpu = (self._began, self._cpu_s())

    def read(self) -> dict[str, Any]:
        """Uptime, memory (resident, children included), CPU share of one core since the last reading, temperature, disk."""
        now, cpu_s = time.monotonic(), self._cpu_s()
        (before, before_s), self._cpu = self._cpu, (now, cpu_s)
        return {
            "ts": rfc3339(datetime.now(timezone.utc)),
            "uptime_s": round(now - self._began),
            "memory_mb": round(sum(process.memory_info().rss for process in self._family()) / 1e6, 1),
            "cpu_percent": round(100.0 * max(0.0, cpu_s - before_s) / max(now - before, 1e-3), 2),
            "temperature_c": _temperature_c(),
            "disk_free_mb": _disk_free_mb(self._state_dir),
        }

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children()]

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._family())


def versions() -> dict[str, str]:
    """Of Stethos, Python, the system and the packages that matter."""
    system = {"stethos": __version__, "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return system | {package: found for package in PACKAGES if (found := _version(package))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _temperature_c() -> float | None:
    """The hottest sensor of the first kind that there is."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    readings = [sensor.current for group in sensors.values() for sensor in group]
    return round(max(readings), 1) if readings else None


def _disk_free_mb(folder: Path) -> float | None:
    try:
        return round(shutil.disk_usage(folder).free / 1e6, 1)
    except OSError:
        return None
