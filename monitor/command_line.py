"""The start of a command, shared by `monitor` and `train`: suggestions for misspelt arguments, usable standard streams."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from monitor.errors import printable

OLDEST_PYTHON = (3, 10)  # this module and the two that start the commands are also valid in older versions, to report this


def python_problem() -> str | None:
    """The problem if this Python is too old for the rest of the code."""
    if sys.version_info >= OLDEST_PYTHON:
        return None
    return f"Python {'.'.join(map(str, OLDEST_PYTHON))} or later is required, this is {sys.version.split()[0]} ({sys.executable})"


def missing_module(error: ModuleNotFoundError, extra: str | None) -> str:
    """The message about a library that is not installed; the error itself is raised if the module is one of ours.

    `extra` is that of the command, which installs everything that the command needs.
    """
    library = (error.name or "monitor").partition(".")[0]
    if library in ("monitor", "train"):
        raise error
    requirement = "stethos" if extra is None else f"'stethos[{extra}]'"
    return f"{library} is not installed for {sys.executable}: pip install {requirement}"


def open_standard_streams() -> None:
    """Open closed standard streams, so that no other file takes their numbers, and let the outputs encode every character."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # the lowest free number
        pass
    os.close(fd)
    sys.stdout, sys.stderr = (stream or os.fdopen(fd, "w") for fd, stream in ((1, sys.stdout), (2, sys.stderr)))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def flush_standard_streams() -> None:
    """Write what is buffered, or discard it if that fails, so that the exit does not fail again and replace the exit status."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
            continue
        with suppress(OSError):  # not a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, which suggests the argument that was probably meant."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all words; unlike in argparse, a command reports the words that it does not know itself."""
        self._words = list(sys.argv[1:] if args is None else args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        text = self._misspelt_option(message) or self._misspelt_choice(message) or f"{message}; see {self.prog} --help"
        self.exit(2, f"{self.prog}: error: {printable(text)}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit, or raise OSError if the help could not be written."""
        sys.stdout.flush()
        super().exit(status, message)

    def _misspelt_option(self, message: str) -> str | None:
        """An unknown option is the cause, even if argparse takes its value for a command or misses a required option."""
        options = self._option_string_actions
        for word in () if message.startswith("argument -") else self._words:
            name = word.partition("=")[0]
            if word == "--":
                break
            if re.match(r"-[^\d]", word) and not any(option.startswith(name) for option in options):
                return f"unrecognized argument {name}; {_meant(name, options) or f'see {self.prog} --help'}"
        return None

    def _misspelt_choice(self, message: str) -> str | None:
        found = re.match(r"(argument .*): invalid choice: '(.*)' \(choose from (.*)\)$", message, re.DOTALL)
        if found is None:
            return None
        argument, got, choices = found.groups()
        meant = _meant(got, [*re.findall(r"[\w-]+", choices), *self._option_string_actions])
        return f"{argument} must be one of {choices}, got '{got}'" + (meant and f"; {meant}")


def _meant(got: str, known: Iterable[str]) -> str:
    close = get_close_matches(got, list(known), n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else ""
