"""`monitor check-config`: print the effective settings, every problem with them, and warnings about absent microphones."""

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from monitor.audio.capture_process import list_devices
from monitor.audio.devices import Device, find_device
from monitor.bundle import Bundle, load_bundle
from monitor.cli.devices import merge
from monitor.config import Config, MachineConfig, MqttConfig, check_settings
from monitor.daemon.bundles.adaptations import in_use
from monitor.daemon.bundles.load import SECRETS, exposed_files, idle_problem, service_problems
from monitor.daemon.control.shared_microphone import shared_microphones
from monitor.daemon.control.socket import NAME
from monitor.errors import ConfigError, SinkError, SourceError, StethosError
from monitor.files import read_regular
from monitor.learning.report_text import duration
from monitor.notify.child import run_jobs
from monitor.notify.job import check_job
from monitor.notify.send import NOT_INSTALLED
from monitor.scoring.bandwidth import empty_bands

log = logging.getLogger(__name__)
EXIT_REFUSED = 78
MAX_FILE_BYTES = 1_000_000
EPILOG = """\
Prints the settings as YAML, then every error and warning. Exit status: 0, or 78 if the service would refuse the file.

  monitor check-config
  monitor --config new.yaml check-config
"""


def run(arguments: argparse.Namespace) -> int:
    """`monitor check-config --config FILE`."""
    return check(arguments.config)


def check(config_path: Path | None) -> int:
    """Print the effective settings as YAML and one line per bundle; log problems and warnings. Return exit status 0 or 78.

    The settings contain no secrets, because the configuration only names files and credentials, and rejects passwords.
    """
    try:
        config, problems = check_settings(config_path, os.environ)
    except ConfigError as error:
        config, problems = None, [str(error)]
    warnings: list[str] = []
    if config is not None:
        settings = config.model_dump(mode="json", by_alias=True)
        print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="", flush=True)
        if config.mqtt is None:
            print("# mqtt: null: no broker; events reach the history, clips, notifications and the page only")
        problems = [*service_problems(config), *(() if config.mqtt is None else _file_problems(config.mqtt))]
        problems += _notify_problems(config)
        for name, machine in config.machines.items():
            problems += _bundle_problems(name, machine, config.state_dir)
        warnings = [*exposed_files(config), *_microphone_warnings(config)]
    for line in problems:
        log.error("monitor: error: %s", line)
    for line in warnings:
        log.warning("monitor: warning: %s", line)
    return EXIT_REFUSED if problems else 0


def _bundle_problems(name: str, machine: MachineConfig, state_dir: Path) -> Iterator[str]:
    """Print the machine's bundle; yield the reasons why the machine cannot be monitored with it."""
    try:
        bundle = in_use(state_dir, name, load_bundle(machine.bundle))
    except StethosError as error:
        yield f"machines.{name}.bundle: {error}"
        return
    print(f"# {name}: {_in_words(name, bundle)}{_remark(machine)}")
    if (problem := idle_problem(name, machine.idle, bundle)) is not None:
        yield problem
    front_end, rate_hz = bundle.manifest.front_end, machine.microphone_rate_hz
    expected_db = None if bundle.expected is None else bundle.expected.mean_db
    if rate_hz is not None and (n_empty := empty_bands(rate_hz, front_end, expected_db)):
        yield (
            f"machines.{name}.microphone_rate_hz must be at least {front_end.sample_rate_hz} for this bundle, got {rate_hz}: "
            f"{n_empty} of its {front_end.n_bands} bands lie above {rate_hz / 2:g} Hz"
        )


def _in_words(name: str, bundle: Bundle) -> str:
    manifest = bundle.manifest
    calibration, adapted = manifest.calibration, manifest.provenance.adapted
    if bundle.is_base:
        next_step = f"nothing is judged until it has learned; next: monitor learn --machine {name}"
        return f"{bundle.id}, {manifest.front_end.sample_rate_hz} Hz, a base bundle: {next_step}"
    return (
        f"{bundle.id}, {manifest.front_end.sample_rate_hz} Hz, threshold {calibration.threshold:.4g} "
        f"set on {duration(calibration.hours)} of normal sound"
        f"{'' if adapted is None else f'; made by monitor {adapted.by} from {adapted.of}'}"
    )


def _remark(machine: MachineConfig) -> str:
    if machine.microphone.startswith("index:"):
        return f"; {machine.microphone} may be another microphone after the next boot; see monitor devices"
    return "" if machine.enabled else "; disabled"


def _file_problems(mqtt: MqttConfig) -> Iterator[str]:
    """The files and credentials configured under `mqtt` that are missing, unreadable or empty."""
    named = {"password_file": mqtt.password_file}
    if mqtt.password_credential is not None:
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        named["password_credential"] = Path(given or SECRETS) / mqtt.password_credential
    if mqtt.tls is not None:
        named |= {f"tls.{key}": path for key, path in mqtt.tls}
    for key, path in named.items():
        if path is not None and path.is_relative_to("/run/credentials") and not path.parent.exists():
            path = SECRETS / path.name  # the folder exists while the service runs
        try:
            if path is not None and not read_regular(path, max_bytes=MAX_FILE_BYTES).strip():
                yield f"mqtt.{key}: {path} is empty"
        except OSError as error:
            yield f"mqtt.{key}: {path} cannot be read: {error.strerror}"


def _notify_problems(config: Config) -> Iterator[str]:
    """The targets of `notify` whose URL is missing or unknown to Apprise. Nothing is sent."""
    jobs = {}
    for name, target in config.notify.items():
        try:
            url = target.read_url(name)
        except SinkError as error:
            yield str(error)
            continue
        jobs[name] = check_job(url)
    outcomes = run_jobs(*jobs.values()) if jobs else []
    errors = {name: one.error for name, one in zip(jobs, outcomes, strict=True) if one.error is not None}
    if NOT_INSTALLED in errors.values():
        errors = {next(iter(errors)): NOT_INSTALLED}
    yield from (f"notify.{name}: {error}" for name, error in errors.items())


def _microphone_warnings(config: Config) -> Iterator[str]:
    """The microphones that are absent or do not fit. The service starts anyway and waits for them."""
    machines = {name: machine for name, machine in config.machines.items() if machine.enabled}
    if not machines:
        return
    try:
        devices = merge(list_devices(), shared_microphones(config.runtime_dir / NAME))
    except StethosError as error:
        yield str(error)
        return
    for name, machine in machines.items():
        try:
            device = find_device(devices, machine.microphone)
        except SourceError as error:
            yield f"machines.{name}.microphone: {machine.microphone}: {error}"
            continue
        yield from (f"machines.{name}.{problem}" for problem in misfits(machine, device))


def misfits(machine: MachineConfig, device: Device) -> Iterator[str]:
    """The settings of a machine that its microphone does not support."""
    if machine.channel is not None and machine.channel > device.n_channels:
        yield f"channel must be in 1..{device.n_channels} for {device.name}, got {machine.channel}"
    rates_hz = () if device.is_virtual else device.rates_hz
    if rates_hz and machine.microphone_rate_hz not in (None, *rates_hz):
        rates = ", ".join(map(str, rates_hz))
        yield f"microphone_rate_hz must be one of {rates} for {device.name}, got {machine.microphone_rate_hz}"
