"""`monitor install-bundle`: install a bundle from a file or folder, with the checks of an update and without its signatures."""

import argparse
import os
from pathlib import Path

from monitor.cli.arguments import configured_machine
from monitor.config import load_config
from monitor.config.installed import update_folder
from monitor.errors import UsageError
from monitor.files import read_regular
from monitor.releases.archive import MAX_ARCHIVE_BYTES, pack
from monitor.update.machine import MachineUpdate, Offer
from monitor.update.service import Service
from monitor.update.store import as_its_owner, locked

EPILOG = """\
For those who roll out by Ansible, Mender or by hand. FILE is an archive of a bundle (train release keeps them in targets/, tar
makes them, too), or the bundle's folder. The bundle is loaded in a child process, live sound is scored with the old and the new
one, and the service changes without a restart. It replaces the machine's configured bundle until it is undone. Nothing is signed:
whoever may run this decides. Exit status: 0, 1 if it cannot be installed now, 78 if the bundle is refused.

  sudo monitor install-bundle models/fan --machine fan
  sudo monitor install-bundle --undo --machine fan
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the bundle: a folder, or an archive of one (.tar)")
    parser.add_argument("--machine", metavar="ID", help="a configured machine (default: the only one)")
    parser.add_argument("--undo", action="store_true", help="go back to the bundle before")
    parser.add_argument("--no-shadow", action="store_true", help="do not compare both bundles on live sound")
    parser.add_argument(
        "--force", action="store_true", help="also replace a bundle that the machine has learned here; no comparison is required"
    )


def run(arguments: argparse.Namespace) -> int:
    """`monitor install-bundle`."""
    if arguments.undo == (arguments.file is not None):
        raise UsageError("either FILE or --undo must be given")
    config = load_config(arguments.config and arguments.config.absolute(), os.environ, installed=False)
    name = configured_machine(arguments.machine, config)
    offer = None if arguments.file is None else _offer(arguments.file)
    here = as_its_owner(update_folder(config).absolute())
    with locked(here):
        machine = MachineUpdate(config, here, name, Service(config.runtime_dir))
        if offer is None:
            print(f"{name}: {machine.undo()}")
        else:
            if not arguments.force:
                machine.check_adapted()
            print(f"{name}: {machine.install(offer, compares=not arguments.no_shadow, force=arguments.force)}")
    return 0


def _offer(path: Path) -> Offer:
    if path.is_dir():
        return Offer(pack(path), what=str(path))
    try:
        return Offer(read_regular(path, max_bytes=MAX_ARCHIVE_BYTES), what=str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
