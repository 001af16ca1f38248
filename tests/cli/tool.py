"""Run a tool's module as the command does, in this process or in a new one."""

import argparse
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from monitor.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]


def run(name: str, *words: object) -> int:
    """`monitor NAME WORDS…`."""
    module = importlib.import_module(f"monitor.cli.{next(one for one, _ in COMMANDS.values() if one.split('.')[-1] == name)}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args([str(word) for word in words])))


def start(name: str, *words: object, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """The same in a new process, with its output in `log`."""
    command = [sys.executable, "-m", "tests.cli.tool", name, *map(str, words)]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.exit(run(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
