"""The `monitor` command: every way to end is an exit status and, unless it is a success, one line."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as in `typing`, whose import takes as long as the rest of the start
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, 1 failed, 2 usage, 3 anomaly found, 78 refused, 130 interrupted)."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        with suppress(OSError):
            print("monitor: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        from monitor.command_line import flush_standard_streams

        flush_standard_streams()


def _run(argv: Sequence[str]) -> int:
    """Everything is imported here, so that an interrupted start, an old Python and a missing library are one line, too."""
    from monitor.command_line import missing_module, open_standard_streams, python_problem

    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # a search through all installed packages
    open_standard_streams()
    if (problem := python_problem()) is not None:
        print(f"monitor: error: {problem}", file=sys.stderr)
        return 1
    import logging

    from monitor.cli.journal import JournalFormatter, LineFormatter, is_journal
    from monitor.errors import StethosError, printable

    log = logging.getLogger(__name__)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger().handlers[0].setFormatter(JournalFormatter() if is_journal(sys.stderr) else LineFormatter())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = None
    try:
        from monitor.cli.commands import parse

        arguments = parse(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except StethosError as error:
        log.error("monitor: error: %s", error)
        return error.exit_status
    except ModuleNotFoundError as error:
        log.error("monitor: error: %s", missing_module(error, getattr(arguments, "extra", None)))
    except BrokenPipeError:  # a reader that stops early is no failure, unless the command does more than to print
        return 1 if arguments is not None and (arguments.publish or arguments.fail_on_anomaly) else 0
    except OSError as error:
        log.error("monitor: error: %s: %s", printable(str(error.filename or "output")), error.strerror)
    return 1


if __name__ == "__main__":
    sys.exit(main())
