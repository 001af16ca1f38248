"""`monitor test-alarm`: have the service send a marked event through the whole chain, and print who has received it."""

import argparse
import json
import os

from monitor.cli.arguments import configured_machine
from monitor.cli.systemd import SERVICE
from monitor.config import load_config
from monitor.daemon.control.socket import NAME, request
from monitor.errors import StethosError, printable

TIMEOUT_S = 30.0
EPILOG = """\
The service publishes an event with `test: true` and a summary that begins with TEST, sets `anomaly` to ON for ten seconds, shows
the event on the page, and sends a message to the targets of `notify`. It ends by itself, and is not part of the history.
Detection, acknowledgements, snoozes and floods are not affected; it also works while the machine is learning.
Exit status: 0 if every receiver has it, 1 if one has not.

  sudo monitor test-alarm
  sudo monitor test-alarm --machine pump --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--machine", metavar="ID", help="a configured machine (default: the only one)")
    parser.add_argument("--json", action="store_true", help="print the reply of the service, as in docs/control.md")


def run(arguments: argparse.Namespace) -> int:
    """Start it and print one line for each receiver."""
    config = load_config(arguments.config, os.environ)
    machine = configured_machine(arguments.machine, config)
    reply = request(config.runtime_dir / NAME, {"do": "test-alarm", "machine": machine}, timeout_s=TIMEOUT_S)
    if reply is None:
        raise StethosError(f"the service does not run; start it: sudo systemctl start {SERVICE}")
    body = reply.body
    mqtt, targets, viewers = body["mqtt"], body["notify"], body["viewers"]
    missing = [name for name, outcome in targets.items() if outcome != "sent"]
    status = 1 if missing or (mqtt is not None and not mqtt["acknowledged"]) else 0
    if arguments.json:
        print(json.dumps(body))
        return status
    print(f"{machine}: test alarm; it ends by itself after {body['lasts_s']:.0f} s")
    if mqtt is None:
        print("  MQTT            none (mqtt: null)")
    elif mqtt["acknowledged"]:
        print("  MQTT            the broker acknowledged the event")
    else:
        print(
            f"  MQTT            QUEUED: {printable(str(mqtt['last_error'] or 'no acknowledgement yet'))}; see monitor mqtt-test"
        )
    if mqtt is not None:
        print(f"  Home Assistant  {'gets it from the broker' if body['home_assistant'] else 'off (home_assistant.enabled)'}")
    print(f"  page            {'shows it' if viewers else 'not connected: is stethos-web running?'}")
    for name, outcome in targets.items():
        hint = "sent" if outcome == "sent" else "QUEUED: quiet hours, or it cannot be sent; see monitor notify-test"
        print(f"  {name:<14}  {hint}")
    if not targets:
        print("  notifications   no target (notify)")
    return status
