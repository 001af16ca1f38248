"""The node's metrics for `health`, and the versions for `info`."""

import platform
import shutil
import time
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from monitor import __version__
from monitor.events.event import rfc3339

PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy", "sounddevice", "soundfile", "soxr", "paho-mqtt", "pydantic")


class Health:
    """Metrics of this process with its children, and of the computer."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._process = psutil.Process()
        self._began = time.monotonic()
        self._cpu = (self._began, self._usage()[0])

    def read(self) -> dict[str, Any]:
        """Uptime, memory (resident, children included), CPU share of one core since the last reading, temperature, disk."""
        now, (cpu_s, memory_bytes) = time.monotonic(), self._usage()
        (before, before_s), self._cpu = self._cpu, (now, cpu_s)
        return {
            "ts": rfc3339(datetime.now(timezone.utc)),
            "uptime_s": round(now - self._began),
            "memory_mb": round(memory_bytes / 1e6, 1),
            "cpu_percent": round(100.0 * max(0.0, cpu_s - before_s) / max(now - before, 1e-3), 2),
            "temperature_c": _temperature_c(),
            "disk_free_mb": _disk_free_mb(self._state_dir),
        }

    def _usage(self) -> tuple[float, int]:
        """CPU seconds and resident bytes, children included. A child that ends in the meantime is not counted."""
        cpu_s, memory_bytes = 0.0, 0
        processes = [self._process]
        with suppress(psutil.Error, OSError):
            processes += self._process.children()
        for process in processes:
            with suppress(psutil.Error, OSError):
                cpu, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
                cpu_s, memory_bytes = cpu_s + cpu, memory_bytes + memory
        return cpu_s, memory_bytes


def versions() -> dict[str, str]:
    """The versions of Stethos, Python, the system and the main packages."""
    system = {"stethos": __version__, "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return system | {package: found for package in PACKAGES if (found := _version(package))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _temperature_c() -> float | None:
    """The temperature of the hottest sensor; None without sensors."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    readings = [sensor.current for group in sensors.values() for sensor in group]
    return round(max(readings), 1) if readings else None


def _disk_free_mb(folder: Path) -> float | None:
    try:
        return round(shutil.disk_usage(folder).free / 1e6, 1)
    except OSError:
        return None
