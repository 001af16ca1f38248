"""The reasons why an update ends."""

from monitor.errors import StethosError


class UpdateError(StethosError):
    """The repository cannot be reached or trusted, or a bundle cannot be installed now."""


class Refusal(StethosError):
    """A bundle is worse than the one in use, or unusable. It is not tried again."""

    exit_status = 78
