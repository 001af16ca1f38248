"""The source of `monitor events` and `monitor history`: the running service, or the state directory of one that does not run."""

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monitor.clips.store import ClipStore, clip_stem
from monitor.config import Config
from monitor.daemon.control.socket import NAME, request
from monitor.events.event import rfc3339
from monitor.files import as_owner
from monitor.history.points import points, width
from monitor.history.read import stored_history

AT_ONCE = 500
TIMEOUT_S = 60.0


def events(config: Config, *, machine: str | None, before: datetime | None, limit: int) -> Iterator[dict[str, Any]]:
    """Events as in docs/control.md, the newest first."""
    until, after_id = None if before is None else rfc3339(before), None
    while limit > 0:
        n_asked = min(limit, AT_ONCE)
        asked = {"do": "events", "machine": machine, "before": until, "after_id": after_id, "limit": n_asked}
        reply = request(config.runtime_dir / NAME, asked, timeout_s=TIMEOUT_S)
        if reply is None:
            yield from _stored_events(config, machine, until, limit, after_id=after_id)
            return
        found = reply.body["events"]
        yield from found
        if len(found) < n_asked:
            return
        limit, until, after_id = limit - len(found), found[-1]["started_at"], found[-1]["id"]


def history(config: Config, *, machine: str, begin: float, end: float, step_s: float) -> dict[str, Any]:
    """The reply to `history` as in docs/control.md."""
    first, last = (rfc3339(datetime.fromtimestamp(at, timezone.utc)) for at in (begin, end))
    asked = {"do": "history", "machine": machine, "from": first, "to": last, "step_s": step_s}
    reply = request(config.runtime_dir / NAME, asked, timeout_s=TIMEOUT_S)
    if reply is not None:
        return reply.body
    width_s = width(int(begin), int(end), step_s)
    with stored_history(config.state_dir) as database:
        rows = database.rows(machine, int(begin), int(end), width_s)
        return {"machine": machine, "step_s": width_s, "points": points(rows, int(begin), int(end), width_s)}


def _stored_events(
    config: Config, machine: str | None, until: str | None, limit: int, *, after_id: str | None
) -> Iterator[dict[str, Any]]:
    with stored_history(config.state_dir) as database:
        found = database.events(machine, until, limit, after_id=after_id)
    clips = _clips(config.state_dir)
    for event in found:
        stem = clip_stem(event["machine"], event["id"])
        yield {**event, "has_clip": stem in clips.stems, "has_picture": stem in clips.pictures}


def _clips(state_dir: Path) -> ClipStore:
    """The clip folder, listed with the rights of its owner."""
    with as_owner(state_dir) as place:
        store = ClipStore(place / "clips", max_bytes=0)
        store.rescan()
    return store
