"""`monitor update`: install the bundles that a signed repository releases to this node."""

import argparse
import logging
import os
from pathlib import Path

from monitor.config import load_config
from monitor.config.installed import update_folder
from monitor.errors import UsageError
from monitor.json_lines import to_json
from monitor.update.run import Outcome, check_trials, install_releases
from monitor.update.store import as_its_owner, locked

log = logging.getLogger(__name__)
EPILOG = """\
One run: judges the bundles that are on trial, fetches the releases of `update.url`, checks their signatures, and for each machine
with a new one: checks that it loads, scores live sound with the old and the new bundle, changes, and returns to the old one if
the service cannot use the new one. The unit stethos-update runs it by a timer. docs/rollout.md describes releases and their keys.
Exit status: 0, 1 if a machine could not be updated now, 78 if a bundle is refused.

  sudo monitor update --trust 1.root.json
  sudo systemctl start stethos-update
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.set_defaults(extra="update")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="trust the repository whose first root is in FILE, and exit")
    parser.add_argument("--json", action="store_true", help="print one JSON line for each machine")


def run(arguments: argparse.Namespace) -> int:
    """`monitor update`."""
    for library in ("urllib3", "tuf"):  # their warnings repeat the error
        logging.getLogger(library).setLevel(logging.ERROR)
    config = load_config(arguments.config and arguments.config.absolute(), os.environ, installed=False)
    folder = update_folder(config).absolute()
    from monitor.update.repository import SignedRepository, forget, trust

    if arguments.trust is not None:
        ids = trust(arguments.trust, config.update.root)
        if folder.is_dir():
            forget(as_its_owner(folder))
        print(
            f"{config.update.root}: trusted from now on: the repository with the root keys {', '.join(one[:16] for one in ids)}"
        )
        return 0
    if not config.machines:
        raise UsageError("no machine is configured; run: sudo monitor setup")
    here = as_its_owner(folder)
    with locked(here):
        outcomes = check_trials(config, here)
        try:
            if config.update.url is None:
                if outcomes:
                    return max(one.status for one in outcomes)
                raise UsageError("update.url must be the address of a repository, got null; docs/rollout.md describes it")
            repository = SignedRepository(
                config.update.url, root=config.update.root, folder=here, timeout_s=config.update.timeout_s
            )
            outcomes += install_releases(config, here, repository.index(config.update.group), repository.archive)
        finally:
            _print(outcomes, as_json=arguments.json)
    return max((one.status for one in outcomes), default=0)


def _print(outcomes: list[Outcome], *, as_json: bool) -> None:
    for one in outcomes:
        if as_json:
            print(to_json({"machine": one.machine, "outcome": one.words, "status": one.status}))
        elif one.status:
            log.error("monitor: error: %s", one.words)
        else:
            print(one.words)
