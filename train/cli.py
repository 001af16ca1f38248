"""The `train` command."""

import argparse
import os
import sys
from collections.abc import Sequence

from monitor import __version__
from monitor.core.errors import StethosError
from train.commands import fit, import_model, synth

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status (0, 1 failed, 2 usage, 78 recipe or bundle refused)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except StethosError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"train: error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train", description="From recordings of normal sound to a bundle for `monitor`.")
    parser.add_argument("--version", action="version", version=f"stethos {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (fit, import_model, synth):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
