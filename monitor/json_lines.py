"""JSON lines on a text stream."""

import json
from typing import Any, TextIO


class JsonLines:
    """Write one JSON object a line, at once, so that a reader at the other end of a pipe sees it in time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, message: dict[str, Any]) -> None:
        """Append one line."""
        self._stream.write(to_json(message) + "\n")
        self._stream.flush()


def to_json(message: dict[str, Any]) -> str:
    """Compact JSON; a number that is not finite is a bug and raises ValueError."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False)
