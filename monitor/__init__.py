"""Stethos learns the normal sound of a machine and reports over MQTT when that sound changes."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in `typing`, which is not imported, so that an early interrupt finds the command started
if TYPE_CHECKING:
    from monitor.audio.microphone import Microphone
    from monitor.audio.recording import Recording
    from monitor.bundle import load_bundle
    from monitor.errors import StethosError
    from monitor.events.event import Event
    from monitor.monitor import Monitor

__version__ = "0.2.0"
__all__ = ["Event", "Microphone", "Monitor", "Recording", "StethosError", "__version__", "load_bundle"]
_HOMES = {
    "Event": "monitor.events.event",
    "Microphone": "monitor.audio.microphone",
    "Monitor": "monitor.monitor",
    "Recording": "monitor.audio.recording",
    "StethosError": "monitor.errors",
    "load_bundle": "monitor.bundle",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562), so that `import monitor` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
