"""`train release`: publish bundles to devices from a signed repository (docs/rollout.md)."""

import argparse
import re
from pathlib import Path

from train.cli.arguments import Commands, not_negative
from train.release.roles import EXPIRES_DAYS, GROUP_EXPIRES_DAYS, MAX_EXPIRES_DAYS, ROLES

_DEFAULT_DAYS = ", ".join(f"{role}={days}" for role, days in EXPIRES_DAYS.items())
_EPILOG = """\
A repository is a folder that any web server can serve. Its keys are not in it: they are in FOLDER-keys next to it, or in the
folders of --keys. docs/rollout.md explains the roles, and what to do when a key is lost or stolen.

  train release init plant --group hall-1 --group hall-2 --offline-keys /media/stick
  train release publish plant models/fan --group hall-1 --machine pi-01/fan --wave 5%
  train release wave plant r0001 25% --group hall-1 --alarms counts.jsonl
  train release status plant

each has --help; needs the extra `release`: pip install 'stethos[release]'
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    release = commands.add_parser(
        "release",
        help="publish bundles to devices from a signed repository",
        description="Publish bundles to devices from a signed repository (TUF), which any web server can serve.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = release.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, (text, add_arguments) in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("folder", type=Path, metavar="FOLDER", help="the repository")
        action.add_argument(
            "--keys",
            type=Path,
            action="append",
            metavar="DIR",
            help="folder with private keys besides FOLDER-keys; may be given several times; init: instead of it",
        )
        action.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="file with the passphrase of the encrypted keys (default: asks)"
        )
        add_arguments(action)
        action.set_defaults(run=_run, action=name, extra="release")


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--offline-keys",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder for the keys of root and targets; of several, each gets one key of root in turn (default: that of --keys)",
    )
    parser.add_argument(
        "--group", type=_group, action="append", metavar="NAME", help="a group of nodes, such as a hall (default: plant)"
    )
    parser.add_argument(
        "--passphrase", action="store_true", help="ask for a passphrase that encrypts the keys of root, targets and the groups"
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        action="append",
        default=[],
        metavar="ROLE=M/N",
        help="make N keys, of which M must sign (default: root=2/3, others 1/1)",
    )
    parser.add_argument(
        "--expires",
        type=_expires,
        action="append",
        default=[],
        metavar="ROLE=DAYS",
        help=f"days after which a signature expires (default: {_DEFAULT_DAYS}, groups {GROUP_EXPIRES_DAYS})",
    )


def _add_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", type=_group, metavar="NAME", help="the new group; its key may release to its nodes only")
    parser.add_argument(
        "--expires", type=_days, metavar="DAYS", default=GROUP_EXPIRES_DAYS, help="days after which its signature expires"
    )


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles",
        nargs="+",
        metavar="BUNDLE",
        help="a bundle's folder, for the machines of --machine; or NODE/MACHINE=FOLDER, once for each machine",
    )
    parser.add_argument(
        "--machine",
        action="append",
        metavar="NODE/MACHINE[,…]",
        help="its machines; repeatable; * stands for any node or machine: '*/fan' (default: all machines of the group)",
    )
    _add_of_group(parser)
    parser.add_argument("--name", type=_group, metavar="NAME", help="name of the release (default: its number, such as r0007)")
    parser.add_argument("--wave", type=_share, default=1.0, metavar="5%", help="only this share of the machines at first")
    parser.add_argument(
        "--base", action="store_true", help="also a base bundle, which detects nothing until each machine has learned"
    )
    parser.add_argument(
        "--replace-adapted",
        action="store_true",
        help="also on machines that have learned or were calibrated on their node (default: they keep that bundle)",
    )


def _add_wave(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the release")
    parser.add_argument("wave", type=_share, metavar="SHARE", help="the larger share, such as 25%%")
    _add_of_group(parser)
    parser.add_argument(
        "--alarms",
        type=Path,
        metavar="FILE",
        help="messages `bundle/current` of the nodes, one a line, as mosquitto_sub -v prints them: refuse too many alarms",
    )
    parser.add_argument(
        "--max-alarms", type=not_negative, default=0.2, metavar="N", help="alarms a machine and day at most (default: 0.2)"
    )
    parser.add_argument(
        "--min-hours", type=not_negative, default=24.0, metavar="H", help="hours of all machines together at least (default: 24)"
    )


def _add_revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the release; its machines go back to the one before")
    _add_of_group(parser)


def _add_refresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE",
        help="also sign this role anew: root, targets or a group (default: only snapshot and timestamp, for a daily timer)",
    )


def _add_rotate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", metavar="ROLE", help="root, targets, snapshot, timestamp or a group")
    parser.add_argument("--key", action="append", default=[], metavar="ID", help="only this key (default: all keys of the role)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the new keys (default: that of the key that it replaces, else FOLDER-keys)",
    )
    parser.add_argument("--empty", action="store_true", help="forget the releases of the group, also if they cannot be read")
    parser.add_argument(
        "--hsm",
        metavar="URI",
        help="use a key that is on a PKCS#11 token: hsm:ID?label=TOKEN; the environment variable PYKCS11LIB names its library",
    )


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="print all releases (default: the latest of each group)")
    parser.add_argument(
        "--days",
        type=not_negative,
        metavar="N",
        help="exit with 1 if something expires within N days (default: 30; snapshot and timestamp: 2)",
    )


def _add_of_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", type=_group, metavar="NAME", help="the group (default: the only one)")


_ACTIONS = {
    "init": ("make a repository and its keys", _add_init),
    "group": ("add a group of nodes with a key of its own", _add_group),
    "publish": ("release bundles to machines", _add_publish),
    "wave": ("let a larger share of the machines use a release", _add_wave),
    "revoke": ("take a release back", _add_revoke),
    "refresh": ("sign snapshot and timestamp anew before they expire", _add_refresh),
    "rotate": ("replace the keys of a role", _add_rotate),
    "status": ("print roles, keys, expiries and releases", _add_status),
}


def _run(arguments: argparse.Namespace) -> None:
    from train.release import actions

    actions.run(arguments)


def _group(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", text) or text in ROLES:
        raise argparse.ArgumentTypeError(f"must consist of a-z, 0-9, _ and -, and be no role of TUF, got {text!r}")
    return text


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text)
    share = float(match[1]) / 100.0 if match else 0.0
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a share above 0% and up to 100%, such as 5%, got {text!r}")
    return share


def _threshold(text: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"(\w+)=(\d)/(\d)", text)
    if match is None or match[1] not in ROLES or not 1 <= int(match[2]) <= int(match[3]):
        raise argparse.ArgumentTypeError(f"must be ROLE=M/N with M of at most N keys, such as root=2/3, got {text!r}")
    return match[1], int(match[2]), int(match[3])


def _expires(text: str) -> tuple[str, int]:
    role, _, days = text.partition("=")
    if role not in ROLES or not _is_life(days):
        allowed = f"ROLE=DAYS with 1 to {MAX_EXPIRES_DAYS} days"
        raise argparse.ArgumentTypeError(f"must be {allowed}, such as timestamp=7, got {text!r}")
    return role, int(days)


def _days(text: str) -> int:
    if not _is_life(text):
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_EXPIRES_DAYS} days, got {text!r}")
    return int(text)


def _is_life(days: str) -> bool:
    return re.fullmatch(r"[0-9]{1,4}", days) is not None and 1 <= int(days) <= MAX_EXPIRES_DAYS
