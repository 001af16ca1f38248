"""Jobs for the child process (monitor/notify/send.py)."""

import base64
from urllib.parse import urlsplit

from monitor.config.notify import PLAIN_SCHEMES
from monitor.notify.message import Message

Job = dict[str, str | None]


def make_job(url: str, message: Message, picture: bytes | None) -> Job:
    """Send a message."""
    encoded = None if picture is None else base64.b64encode(picture).decode()
    texts = {"title": message.title, "body": message.body, "type": message.notify_type}
    return {**check_job(url), "do": "send", "picture": encoded, **texts}


def check_job(url: str) -> Job:
    """Check a URL without sending."""
    return {"do": "check", "url": url, "shown": _host(url)}


def _host(url: str) -> str | None:
    """The host of a URL whose scheme has no tokens in its place."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in PLAIN_SCHEMES else None
    except ValueError:
        return None
