"""Send a message with Apprise, or check URLs: read JSON lines on stdin, write a JSON line for each on stdout.

python -m monitor.notify.send

A job is {"do": "send", "url", "shown", "title", "body", "type", "picture": base64 or null}, or {"do": "check", "url", "shown"},
which sends nothing. The answer is {"error": null} or {"error": the reason in one line}, which contains no part of the URL except
for `shown`, its host where that is no secret, or null. This module imports as little as possible.
"""

import base64
import json
import logging
import os
import re
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MAX_JOB = 2_000_000  # characters
MEMORY = 400_000_000  # bytes beyond those in use at the start
CPU_S, WALL_S = 30, 90
MAX_REASON = 200
MIN_SECRET = 4  # characters of a part of a URL that is hidden
NOT_INSTALLED = "apprise is not installed: pip install 'stethos[notify]'"
COMMON = {"from", "name", "smtp", "mode", "format", "verify", "text", "html", "markdown", "true", "false", "none"}
HIDDEN = "<hidden>"


class _Collector(logging.Handler):
    """The last warnings of Apprise, which are its reasons for a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines = [*self.lines, record.getMessage()][-3:]


def main() -> int:
    """Process the jobs; the exit status is 0 whenever there is an answer to each."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # libraries may print
        _limit()
        while line := sys.stdin.readline(MAX_JOB):
            job = json.loads(line)
            error = _try(job)
            shown = None if error is None else without_secrets(error, job["url"], shown=job["shown"])
            print(json.dumps({"error": shown}), file=answers)
    return 0


def _try(job: dict[str, Any]) -> str | None:
    """Process a job; the reason if it fails in whatever way."""
    try:
        return _process(job)
    except MemoryError:
        return f"sending needs more than {MEMORY / 1e6:.0f} MB of memory"
    except Exception as error:  # noqa: BLE001 (its text is the answer)
        return f"{type(error).__name__}: {error}"


def _process(job: dict[str, Any]) -> str | None:
    """Do the job; the reason if it fails."""
    try:
        import apprise
        from apprise.attachment.memory import AttachMemory
    except ModuleNotFoundError:
        return NOT_INSTALLED
    reasons = _Collector()
    logger = logging.getLogger("apprise")
    logger.addHandler(reasons)
    logger.propagate = False
    asset = apprise.AppriseAsset(
        app_id="Stethos", app_desc="Stethos", app_url="", async_mode=False, secure_logging=True, plugin_paths=[]
    )
    service = apprise.Apprise.instantiate(job["url"], asset=asset)
    if service is None:
        return "; ".join(reasons.lines) or "Apprise does not know this URL"
    if job["do"] == "check":
        return None
    files = apprise.AppriseAttachment()
    if job["picture"] is not None and service.attachment_support:
        content = base64.b64decode(job["picture"])
        files.add(AttachMemory(content=content, name="stethos.png", mimetype="image/png"))  # type: ignore[no-untyped-call]
    sent = service.notify(body=job["body"], title=job["title"], notify_type=job["type"], attach=files if len(files) else None)
    return None if sent else "; ".join(reasons.lines) or "the service did not accept the message"


def without_secrets(text: str, url: str, *, shown: str | None) -> str:
    """One printable line in which no part of the URL is shown, except for its scheme and `shown`."""
    text = re.sub(r"(\w://)\S+", rf"\1{HIDDEN}", text)
    for part in sorted(secret_parts(url) - {shown}, key=len, reverse=True):
        text = re.sub(re.escape(part), HIDDEN, text, flags=re.IGNORECASE)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1]}…"


def secret_parts(url: str) -> set[str]:
    """A URL and its parts, except for its scheme, very short ones and common words."""
    parts = {part for whole in (url, unquote(url)) for part in re.split(r"[/:@?&=#,\s]+", whole.partition("://")[2])}
    return {part for part in (url, *parts, *map(unquote, parts)) if len(part) >= MIN_SECRET and part not in COMMON}


def _limit() -> None:
    signal.alarm(WALL_S)  # in case that the parent was killed
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in ((resource.RLIMIT_AS, in_use + MEMORY), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # a sandbox may forbid it; the time limit of the parent remains
            resource.setrlimit(limit, (value, value))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # if memory is short, this ends and not the monitoring


if __name__ == "__main__":
    sys.exit(main())
