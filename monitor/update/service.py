"""The running service as an update sees it, through its control socket."""

import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.daemon.control.socket import NAME, ControlError, open_stream, request
from monitor.events.event import rfc3339
from monitor.update.errors import UpdateError

ANSWER_S = 30.0
POLL_S = 0.2
MAX_CLIP_BYTES = 20_000_000
MAX_EVENTS = 500


class Service:
    """The service with this runtime directory. Nothing fails because it does not run."""

    def __init__(self, runtime_dir: Path) -> None:
        self.control = runtime_dir / NAME

    def machine(self, name: str) -> dict[str, Any] | None:
        """The status of a machine; None if the service does not run, or does not monitor it."""
        reply = request(self.control, {"do": "status"}, timeout_s=ANSWER_S)
        found = {} if reply is None else reply.body.get("machines", {})
        status = found.get(name) if isinstance(found, dict) else None
        return status if isinstance(status, dict) else None

    def use(self, machine: str, bundle: str, *, within_s: float, or_adapted: bool = False) -> str:
        """Have the service reload, and wait until the machine runs with this bundle, or with one adapted on the node.

        UpdateError if it does not.
        """
        before = self.machine(machine)
        if request(self.control, {"do": "reload"}, timeout_s=ANSWER_S) is None:
            return "the service does not run; it uses the bundle from its next start"
        if before is None:
            return "the machine is not being monitored; it uses the bundle when it is enabled"
        until_s = time.monotonic() + within_s
        while True:
            status = self.machine(machine) or before
            if status.get("bundle") == bundle or (or_adapted and status.get("adapted") is not None):
                return "in use"
            if time.monotonic() > until_s:
                raise UpdateError(
                    f"{machine}: the service still uses {status.get('bundle')} after {within_s:.0f} s; its log says why. If its "
                    "folder of installed bundles is new, restart it once: systemctl restart stethos"
                )
            time.sleep(POLL_S)

    def alarms(self, machine: str, bundle: str, since: datetime) -> list[dict[str, Any]]:
        """The alarms that a bundle has raised since then, the newest first. Tests are not among them."""
        reply = request(self.control, {"do": "events", "machine": machine, "limit": MAX_EVENTS}, timeout_s=ANSWER_S)
        events = [] if reply is None else reply.body.get("events", [])
        return [
            event
            for event in events
            if event["bundle"] == bundle
            and event["severity"] == "alarm"
            and not event.get("test")
            and str(event["started_at"]) >= rfc3339(since)
        ]

    def clip(self, event_id: str) -> bytes | None:
        """The recorded sound of an event; None if there is none."""
        try:
            opened = open_stream(self.control, {"do": "clip", "id": event_id}, timeout_s=ANSWER_S)
        except ControlError:
            return None
        if opened is None:
            return None
        body, connection, content = opened
        size = body.get("size")
        if not isinstance(size, int) or not 0 < size <= MAX_CLIP_BYTES:
            connection.close()
            return None
        parts = bytearray(content)
        with closing(connection):
            while len(parts) < size and (data := connection.recv(1 << 16)):
                parts += data
        return bytes(parts[:size]) if len(parts) >= size else None
