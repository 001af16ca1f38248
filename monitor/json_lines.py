"""JSON lines on a text stream."""

import json
from typing import Any, TextIO


class JsonLines:
    """Writes one JSON object per line and flushes it, so that a reader at the other end of a pipe receives it at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, message: dict[str, Any]) -> None:
        """Append one line."""
        self.write_text(to_json(message) + "\n")

    def write_text(self, lines: str) -> None:
        """Append whole lines."""
        self._stream.write(lines)
        self._stream.flush()


def to_json(message: dict[str, Any]) -> str:
    """JSON on one line. A non-finite number is a bug and raises ValueError."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False)
