"""Errors named by whose fault they are; each message is one line: name, got, allowed."""


class StethosError(Exception):
    """Something a person can act on. `exit_status` is what the command returns for it."""

    exit_status = 1


class UsageError(StethosError):
    """The command line does not fit together."""

    exit_status = 2


class ConfigError(StethosError, ValueError):
    """A setting is impossible."""

    exit_status = 78


class BundleError(StethosError, ValueError):
    """A bundle is incomplete, altered or does not fit together."""

    exit_status = 78


class SourceError(StethosError):
    """Sound could not be read, or is not sound."""


class SinkError(StethosError):
    """An event could not be delivered."""


class ScoreError(StethosError):
    """A detector component gave a number that is not finite, or is no measure of others."""
