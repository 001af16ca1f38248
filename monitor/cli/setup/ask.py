"""Questions on the terminal. What the command line already says is not asked, and with --yes nothing is."""

import getpass
from collections.abc import Callable

from monitor.cli.setup.answers import Answers
from monitor.errors import StethosError, UsageError


class Asker:
    """Asks a person. The default of a question is the answer of an interrupted setup, else the present setting."""

    def __init__(self, answers: Answers, *, yes: bool) -> None:
        self.yes = yes
        self._answers = answers

    def text(self, key: str, question: str, *, default: str, given: str | None, check: Callable[[str], str]) -> str:
        """The checked answer. `given` is that of the command line, and `check` raises a StethosError for a wrong one."""
        if self.yes:
            return check(given or default)
        checked = self._ask(question, self._answers.get(key) or default, check) if given is None else check(given)
        self._answers.put(key, checked)
        return checked

    @staticmethod
    def _ask(question: str, offered: str, check: Callable[[str], str]) -> str:
        while True:
            answer = read_line(f"{question} [{offered}]: " if offered else f"{question}: ") or offered
            try:
                return check(answer)
            except StethosError as error:
                print(f"  {error}")

    def so_far(self, key: str) -> str | None:
        """The answer of this setup, or of the interrupted one; None if there is none, and with --yes."""
        return None if self.yes else self._answers.get(key)

    def confirm(self, question: str, *, default: bool) -> bool:
        """Whether the answer is yes."""
        if self.yes:
            return default
        while True:
            answer = read_line(f"{question} [{'Y/n' if default else 'y/N'}]: ").lower()
            if answer in ("", "y", "yes", "n", "no"):
                return default if not answer else answer[0] == "y"

    def choose(self, question: str, choices: str) -> str:
        """One of these letters; the first is the default."""
        while True:
            answer = read_line(f"{question} [{choices[0]}]: ").lower()[:1] or choices[0]
            if answer in choices:
                return answer

    def secret(self, question: str) -> str:
        """A password, which is neither shown nor stored; empty: none was given."""
        try:
            return getpass.getpass(f"{question}: ")
        except EOFError:
            raise KeyboardInterrupt from None


def read_line(prompt: str) -> str:
    """A line without spaces around it. The end of the input interrupts."""
    try:
        return input(prompt).strip()
    except EOFError:
        print()
        raise KeyboardInterrupt from None


def heading(text: str) -> None:
    """Begin a part of the setup."""
    print(f"\n{text}")


def slug(text: str) -> str:
    """An id of a-z, 0-9, _ and - made of a name; UsageError if nothing is left of it."""
    found = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else " " for char in text.lower())
    if not found.split():
        raise UsageError(f"must contain letters a-z or digits, got {text!r}")
    return "-".join(found.split())[:64]
