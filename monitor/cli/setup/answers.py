"""The answers so far, in a file beside the configuration, so that an interrupted setup continues. Passwords are never in it."""

import json
from contextlib import suppress
from pathlib import Path

from monitor.errors import SinkError
from monitor.files import atomic_write, read_regular

MAX_BYTES = 100_000


class Answers:
    """Answers by question. They are stored at once, because the connection to the terminal may break at any time."""

    def __init__(self, config_path: Path) -> None:
        """Read the answers of an interrupted setup, if there was one."""
        self._path = config_path.with_name(f".{config_path.name}.setup")
        self._answers: dict[str, str] = {}
        with suppress(OSError, ValueError):  # a damaged file has no answers
            found = json.loads(read_regular(self._path, max_bytes=MAX_BYTES))
            self._answers = {str(key): value for key, value in dict(found).items() if isinstance(value, str)}
        self.resumed = bool(self._answers)

    def get(self, key: str) -> str | None:
        """The answer, if there is one."""
        return self._answers.get(key)

    def put(self, key: str, answer: str) -> None:
        """Store an answer; SinkError if that fails."""
        self._answers[key] = answer
        try:
            atomic_write(self._path, json.dumps(self._answers).encode(), mode=0o600)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written: {error.strerror}") from error

    def forget(self) -> None:
        """The setup is complete."""
        self._path.unlink(missing_ok=True)
