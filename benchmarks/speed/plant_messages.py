"""Messages that the nodes of a plant would send, built from the models of docs/mqtt.md."""

import random
import uuid
from datetime import datetime, timezone

from monitor.events.event import rfc3339
from monitor.mqtt.messages import BandMessage, EventMessage, HealthMessage, InfoMessage, MachineInfo, StateMessage

BUNDLES = ("demo-fan@1f0c2a9b", "press-line@77ab10cd", "pump-v3@0912ffe1")


def now() -> str:
    """The present time, as in messages."""
    return rfc3339(datetime.now(timezone.utc))


def info(machines: dict[str, str | None], *, number: int = 0) -> str:
    """`info` of a node with these machines and their display names."""
    listed = {
        machine: MachineInfo(name=name, microphone="default", bundle=BUNDLES[number % len(BUNDLES)], adapted=None)
        for machine, name in machines.items()
    }
    versions = {"stethos": "0.4.0", "python": "3.11.7", "system": "Linux 6.1 aarch64", "numpy": "2.2.1"}
    return InfoMessage(versions=versions, machines=listed).text


def health(random_: random.Random) -> str:
    """`health` of a node."""
    return HealthMessage(
        ts=now(),
        uptime_s=86_400,
        memory_mb=round(random_.uniform(90, 120), 1),
        cpu_percent=round(random_.uniform(5, 30), 1),
        temperature_c=round(random_.uniform(40, 60), 1),
        disk_free_mb=12_000.0,
        queued=0,
        dropped=0,
        parked=0,
        last_parked=None,
        outbox_error=None,
        clips_lost=0,
        history_lost=0,
        history_error=None,
        commands_dropped=0,
        failures=0,
        clock_synced=True,
        overruns=0,
        gap_s=0.0,
        last_frame_age_s=0.4,
    ).text


def state(kind: str, ratio: float | None, *, since: str, reason: str | None = None, score: float | None = None) -> str:
    """`state` of a machine; `kind` is a severity or a state."""
    is_open = kind in ("warning", "alarm")
    return StateMessage(
        state="anomaly" if is_open else kind,  # type: ignore[arg-type]
        reason=reason,
        severity=kind if is_open else None,  # type: ignore[arg-type]
        acknowledged=False,
        snoozed=False,
        snoozed_until=None,
        flooding=False,
        recent_anomalies=int(is_open),
        score=ratio if score is None else score,
        ratio=ratio,
        threshold=1.0,
        rms_dbfs=-31.5,
        peak=0.12,
        dc=0.0001,
        clipped_fraction=0.0,
        zero_fraction=0.0,
        drift=0.35,
        slow_path="ready",
        slow_path_missing_h=0.0,
        slow_path_ratio=0.6,
        since=since,
    ).text


def event(node: str, machine: str, *, kind: str = "start", severity: str = "alarm", seq: int = 0, id_: str | None = None) -> str:
    """`event` of a machine."""
    return EventMessage(
        event_type=kind,  # type: ignore[arg-type]
        id=id_ or str(uuid.uuid4()),
        seq=seq,
        ts=now(),
        onset_ts=now(),
        clock_synced=True,
        node=node,
        machine=machine,
        severity=severity,  # type: ignore[arg-type]
        score=3.1,
        ratio=3.1,
        threshold=1.0,
        peak_ratio=3.4,
        duration_s=14.0,
        rms_dbfs=-30.2,
        bands=[BandMessage(low_hz=3200.0, high_hz=4100.0, excess_db=12.0)],
        summary="12 dB more than usual at 3.2 to 4.1 kHz",
        bundle=BUNDLES[0],
        clip=None,
        end_reason="cleared" if kind == "end" else None,
    ).text
