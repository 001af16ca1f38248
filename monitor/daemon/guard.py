"""A guard: runs steps whose unexpected errors must not end the service."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Guard:
    """An unexpected error of a step is counted, and logged unless the last one of this step was the same."""

    def __init__(self) -> None:
        self.n_failures = 0
        self._logged: dict[str, str] = {}  # the last error of each step

    def run(self, name: str, step: Callable[[], object]) -> None:
        """Run a step; `name` is for the log."""
        try:
            step()
        except Exception as error:
            self.n_failures += 1
            if self._logged.get(name) != repr(error):
                self._logged[name] = repr(error)
                log.exception("%s: unexpected error", name)
