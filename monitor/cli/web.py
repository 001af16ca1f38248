"""`monitor web`: serve the page, or the overview of many nodes, or set their passwords."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.config import WebConfig, load_config
from monitor.errors import UsageError

if TYPE_CHECKING:
    from monitor.web.access.passwords import Passwords
EPILOG = """\
Without a password only this computer sees the page. The service runs without it, and it runs without the service.

  monitor web
  sudo monitor web --set-password

With --fleet it is the overview of all nodes of a broker, with passwords of its own (docs/overview.md).

  monitor web --fleet
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.set_defaults(extra="web")
    parser.add_argument("--fleet", action="store_true", help="the overview of all nodes at the broker")
    which = parser.add_mutually_exclusive_group()
    text = "set the password of the {}: prompts for it, or reads one line from a pipe"
    which.add_argument("--set-password", action="store_const", const="admin", dest="role", help=text.format("administrator"))
    which.add_argument("--set-viewer-password", action="store_const", const="viewer", dest="role", help=text.format("viewers"))


def run(arguments: argparse.Namespace) -> int:
    """`monitor web --config FILE`."""
    config = load_config(arguments.config, os.environ)
    if arguments.role is None and arguments.fleet:
        arguments.extra = "overview"
        from monitor.overview.app import run_overview

        return run_overview(config, os.environ)
    if arguments.role is None:
        from monitor.web.server import run_server

        return run_server(config, os.environ)
    section = config.fleet if arguments.fleet else config.web
    _passwords(section).set(arguments.role, _ask())
    who = "administrator" if arguments.role == "admin" else "viewers"
    print(f"The password of the {who} is set. Its sessions have ended. If it is the first one, restart the {section.served}.")
    return 0


def set_password(config: WebConfig, password: str) -> Path:
    """Set the administrator's password and return its file; UsageError if it is too short or too long."""
    passwords = _passwords(config)
    passwords.set("admin", password)
    return passwords.path


def has_password(config: WebConfig) -> bool:
    """Whether the page is open to other computers."""
    return _passwords(config).is_set


def _passwords(config: WebConfig) -> "Passwords":
    from monitor.web.access.passwords import Passwords
    from monitor.web.server import state_dir

    return Passwords(state_dir(config, os.environ))


def _ask() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(1_000).rstrip("\r\n")
    first, second = getpass.getpass("New password: "), getpass.getpass("Again: ")
    if first != second:
        raise UsageError("the two entries differ")
    return first
