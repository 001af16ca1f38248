"""`monitor setup`: ask what a new installation needs, write the configuration, start the service, and learn."""

import argparse
import logging
import os
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from monitor.bundle import load_bundle
from monitor.cli import systemd
from monitor.cli.arguments import selector, within
from monitor.cli.commands import DEFAULT_CONFIG, parse
from monitor.cli.setup.answers import Answers
from monitor.cli.setup.ask import Asker, heading
from monitor.cli.setup.draft import Draft
from monitor.cli.setup.questions import ask_all
from monitor.cli.web import has_password, set_password
from monitor.config.mqtt import TlsConfig
from monitor.config.secrets import PASSED
from monitor.daemon.bundles.adaptations import in_use
from monitor.errors import StethosError, UsageError
from monitor.files import readable_by_others
from monitor.mqtt.messages import LEARN_MINUTES, MAX_LEARN_MINUTES, MIN_LEARN_MINUTES

log = logging.getLogger(__name__)
EPILOG = """\
Asks for the machine, its microphone, the broker, Home Assistant and a password of the page, tries them, writes the settings,
starts the service and learns the machine. Run it again to change something: it offers the present settings. When it is
interrupted, run it again, too: it offers the answers so far. Nothing is changed before all questions are answered and the
settings are accepted; the previous file is kept as FILE.bak.

Each step is also a command: monitor devices --level; editing FILE and monitor check-config; monitor mqtt-test; monitor web
--set-password; systemctl restart stethos; monitor learn.

  sudo monitor setup
  sudo monitor setup --yes --machine fan --microphone usb:0d8c:0014 --broker none --learn 10
  sudo monitor setup --yes --broker 192.168.1.5 --plain-text --user stethos --password-file secret --learn no
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--yes", action="store_true", help="ask nothing: present settings, or defaults, where no option is given")
    parser.add_argument("--machine", metavar="ID", help="the machine to set up, configured or new: a-z, 0-9, _ and -")
    parser.add_argument("--name", metavar="TEXT", help="its display name")
    parser.add_argument("--microphone", type=selector, metavar="SELECTOR", help="its microphone, as listed by `monitor devices`")
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="models/base, models/base-wide (hears up to 20 kHz), or its own bundle"
    )
    parser.add_argument("--node", metavar="ID", help="name of this computer in topics and events (default: its host name)")
    parser.add_argument("--broker", metavar="HOST[:PORT]", help="the MQTT broker, or none; port 8883: with TLS")
    parser.add_argument("--user", metavar="NAME", help="user at the broker, or none")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="a file that contains only the user's password")
    parser.add_argument("--plain-text", action="store_true", help="allow a broker on another computer without TLS")
    parser.add_argument("--ca", metavar="FILE", help="use TLS; trust the authority in this PEM file, or system: the usual ones")
    parser.add_argument("--no-home-assistant", action="store_true", help="do not announce machines to Home Assistant")
    parser.add_argument("--page-password-file", type=Path, metavar="FILE", help="set the page's password to the one in this file")
    parser.add_argument("--learn", type=_minutes, metavar="MINUTES", help="learn now for so long, or no (default with --yes: no)")
    parser.add_argument("--no-service", action="store_true", help="write the settings only; do not touch the service")


def run(arguments: argparse.Namespace) -> int:
    """Ask, write, start and learn."""
    if not arguments.yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("setup asks questions: run it in a terminal, or give --yes, and options for what you want to set")
    os.umask(0o022)  # the service's user must be able to read the settings
    path = arguments.config or DEFAULT_CONFIG
    draft, answers = Draft(path), Answers(path)
    asker = Asker(answers, yes=arguments.yes)
    if answers.resumed and not arguments.yes:
        print("An earlier setup was interrupted. Its answers are the defaults; passwords were not stored.")
    machine, page_password = ask_all(arguments, asker, draft)
    _write(draft)
    _start(arguments, draft, page_password=page_password)
    answers.forget()
    return _learn(arguments, asker, draft, machine)


def _write(draft: Draft) -> None:
    heading("Settings")
    if not draft.has_changed and draft.password is None:
        print(f"  {draft.path} is as it was.")
        return
    draft.write()
    print(f"  {draft.path} is written{'' if not draft.existed else f'; the previous one is {draft.path.name}.bak'}.")
    for path in _hidden_from_service(draft):
        print(f"  Warning: the service runs as a user of its own, which cannot read {path} (docs/operating.md, Set up)")


def _hidden_from_service(draft: Draft) -> list[Path]:
    """Files of the settings that the service's user cannot read. The unit hides home directories; systemd passes credentials."""
    if draft.path != DEFAULT_CONFIG:
        return []
    config = draft.read()
    files = [settings.bundle for settings in config.machines.values()]
    if config.mqtt is not None:
        tls = config.mqtt.tls or TlsConfig()
        files += [path for path in (config.mqtt.password_file, tls.ca, tls.certificate, tls.key) if path is not None]
    return [path for path in files if not path.is_relative_to(PASSED) and not _can_service_read(path)]


def _can_service_read(path: Path) -> bool:
    return readable_by_others(path) and not any(path.resolve().is_relative_to(home) for home in ("/home", "/root"))


def _start(arguments: argparse.Namespace, draft: Draft, *, page_password: str | None) -> None:
    if page_password is not None:
        print(f"  The page's password is set, in {set_password(draft.read().web, page_password)}.")
    if arguments.no_service:
        return
    heading("Service")
    if not systemd.has_systemd():
        commands = [systemd.monitor_command(draft.path), systemd.monitor_command(draft.path, "web")]
        print(f"  There is no systemd here. Run the service: {commands[0]}\n  and the page: {commands[1]}")
        return
    if os.geteuid() != 0:
        print("  Only root may start it: sudo systemctl restart stethos")
        return
    units = [systemd.SERVICE, *([systemd.PAGE] if find_spec("starlette") is not None else [])]
    for unit in units:
        is_same = not draft.has_changed and draft.password is None and (unit != systemd.PAGE or page_password is None)
        runs = is_same and systemd.is_active(unit)
        print(f"  {unit} {'runs already' if runs else f'is {systemd.start(unit, draft.path)}'}.")
    if len(units) > 1:
        web = draft.read().web
        host = socket.gethostname() if page_password is not None or has_password(web) else "127.0.0.1"
        print(f"  The page: {'http' if web.tls is None else 'https'}://{host}:{web.port}{web.base_path}/")


def _learn(arguments: argparse.Namespace, asker: Asker, draft: Draft, machine: str) -> int:
    minutes = arguments.learn
    if minutes is None and not asker.yes:
        heading("Learning")
        is_new = _has_not_learned(draft, machine)
        print(f"  {machine} must run normally for {LEARN_MINUTES:g} minutes, at its usual loads; any other sound is an anomaly.")
        if asker.confirm("Learn it now" if is_new else "It has learned. Learn it anew, from the beginning", default=is_new):
            minutes = float(LEARN_MINUTES)
    if not minutes:
        print(f"\nDone. To learn {machine}: {systemd.monitor_command(draft.path, 'learn', '--machine', machine)}")
        return 0
    words = ["--config", str(draft.path), "learn", "--machine", machine, "--minutes", f"{minutes:g}", "--yes"]
    learn = parse(words)
    status: int = learn.run(learn)
    return status


def _has_not_learned(draft: Draft, machine: str) -> bool:
    """Whether the machine's bundle knows no machine yet."""
    with suppress(StethosError, OSError):
        config = draft.read()
        return in_use(config.state_dir, machine, load_bundle(config.machines[machine].bundle)).is_base
    return True


def _minutes(text: str) -> float:
    """For `type=`: minutes, or no."""
    try:
        return 0.0 if text == "no" else within(MIN_LEARN_MINUTES, MAX_LEARN_MINUTES)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or no") from None
