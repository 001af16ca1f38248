"""The `train` command."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from monitor import __version__
from monitor.command_line import Parser, flush_standard_streams, missing_module, open_standard_streams
from monitor.errors import StethosError, printable
from train.cli import calibrate, evaluate, fit, fleet, import_model, inspect, release, report, synth

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_EXAMPLE = """\
from recordings in my-fan/normal/ (and optionally faulty ones in my-fan/anomaly/) to a report:
  train inspect my-fan
  train fit my-fan --recipe default --out models/my-fan
  train evaluate models/my-fan my-fan --out reports/my-fan
training and evaluation need the extra `train`: pip install 'stethos[train]'
see each command's --help; exit status: 0 done, 1 failed, 2 usage, 78 recipe or bundle refused, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status (0, 1 failed, 2 usage, 78 recipe or bundle refused)."""
    open_standard_streams()
    try:
        arguments = make_parser().parse_args(argv)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        return _status(arguments)
    finally:
        flush_standard_streams()


def _status(arguments: argparse.Namespace) -> int:
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except StethosError as error:
        lines = [f"train: error: {error}", *getattr(error, "hints", ())]
        print("\n".join(map(printable, lines)), file=sys.stderr)
        return error.exit_status
    except ModuleNotFoundError as error:
        print(f"train: error: {missing_module(error, getattr(arguments, 'extra', 'train'))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0  # a reader that stops early is no failure
    except OSError as error:
        print(f"train: error: {printable(str(error.filename or 'output'))}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"train: interrupted; {str(interrupt) or 'the output was not written'}", file=sys.stderr)
        return 130
    return 0


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="train",
        description="Turn recordings of normal operation into a bundle for `monitor`.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stethos {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (inspect, fit, calibrate, evaluate, report, fleet, import_model, synth, release):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
