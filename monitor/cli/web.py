"""`monitor web`: serve the page, or set its passwords."""

import argparse
import getpass
import os
import sys

from monitor.config import load_config
from monitor.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    text = "set the password of the {}: prompts for it, or reads one line from a pipe"
    which.add_argument("--set-password", action="store_const", const="admin", dest="role", help=text.format("administrator"))
    which.add_argument("--set-viewer-password", action="store_const", const="viewer", dest="role", help=text.format("viewers"))


def run(arguments: argparse.Namespace) -> int:
    """`monitor web --config FILE`."""
    config = load_config(arguments.config, os.environ)
    from monitor.web.server import run_server, state_dir

    if arguments.role is None:
        return run_server(config, os.environ)
    from monitor.web.access.passwords import Passwords

    folder = state_dir(config.web, os.environ)
    Passwords(folder).set(arguments.role, _ask())
    who = "administrator" if arguments.role == "admin" else "viewers"
    print(f"The password of the {who} is set. Its sessions have ended. If it is the first one, restart the page.")
    return 0


def _ask() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(1_000).rstrip("\r\n")
    first, second = getpass.getpass("New password: "), getpass.getpass("Again: ")
    if first != second:
        raise UsageError("the two entries differ")
    return first
