"""Error types, named after the part at fault. Each message is one printable line: name, got, allowed."""


def printable(text: str) -> str:
    r"""The text, with characters that are not printable as Python writes them: `\n`, or `\udcfc` for a byte that is not UTF-8."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class StethosError(Exception):
    """An error that a person can act on. `exit_status` is the resulting exit status of the command."""

    exit_status = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(StethosError):
    """The command line is invalid or inconsistent."""

    exit_status = 2


class ConfigError(StethosError, ValueError):
    """A setting is invalid."""

    exit_status = 78


class BundleError(StethosError, ValueError):
    """A bundle is incomplete, modified or inconsistent."""

    exit_status = 78


class SourceError(StethosError):
    """Sound could not be read, or the data is not sound."""


class SinkError(StethosError):
    """An event could not be delivered, or a file not written."""


class ScoreError(StethosError):
    """A detector component returned a score that is not finite, or its typical score cannot be used as a scale."""
