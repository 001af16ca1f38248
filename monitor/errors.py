"""Error types, named after the part at fault. Each message is one line: name, got, allowed."""


class StethosError(Exception):
    """An error that a person can act on. `exit_status` is the resulting exit status of the command."""

    exit_status = 1


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
