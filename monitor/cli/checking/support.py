"""`monitor support`: collect facts for a bug report in one archive, without sound, secrets, names or serial numbers."""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from monitor.audio.capture_process import list_devices
from monitor.audio.devices import device_to_json
from monitor.bundle.manifest import MANIFEST, read_manifest
from monitor.cli.checking.redact import Redactor, who_and_where
from monitor.config import Config, MqttConfig, load_config
from monitor.daemon.bundles.adaptations import FOLDER, read_adaptation
from monitor.daemon.control.socket import NAME, request
from monitor.daemon.health import Health, versions
from monitor.errors import StethosError, UsageError
from monitor.files import as_owner
from monitor.mqtt.credentials import password
from monitor.notify.send import secret_parts

UNIT = "stethos.service"
COMMAND_S = 10.0
JOURNAL_LINES = 1_000
MAX_BYTES = 2_000_000  # per file; only the end of a longer file is included
_PROPERTIES = "ActiveState,SubState,Result,NRestarts,ExecMainStatus,ActiveEnterTimestamp,StatusText,MemoryCurrent,CPUUsageNSec"
_README = """Facts about an installation of Stethos, for a bug report.

It contains no sound. Recognised passwords, user names, host names, serial numbers and network addresses were replaced by
<hidden>, <user>, <host>, <serial> and <address>. Please review it before you send it.
"""
EPILOG = """\
  sudo monitor support
  sudo monitor support --out report.zip
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="a new .tar.gz or .zip (default: stethos-support-TIME.tar.gz)")


def run(arguments: argparse.Namespace) -> int:
    """Collect the files, redact them and write the archive."""
    out = arguments.out or Path(f"stethos-support-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.tar.gz")
    if not out.name.endswith((".tar.gz", ".tgz", ".zip")):
        raise UsageError(f"--out must end with .tar.gz or .zip, got {out.name}")
    files = collect(arguments.config)
    _write(out, files)
    print(f"{out}: {len(files)} files, {out.stat().st_size / 1000:.0f} kB. Please review it before you send it.")
    return 0


def collect(config_path: Path | None) -> dict[str, str]:
    """Collect the redacted files of the archive, by name. A file that cannot be collected contains the error instead."""
    try:
        config, problem = load_config(config_path, os.environ), None
    except StethosError as error:
        config, problem = Config(), str(error)
    redactor = Redactor(_to_hide(config))
    facts: dict[str, Callable[[], Any]] = {
        "versions.json": _versions,
        "config.json": lambda: {"error": problem} if problem else config.model_dump(mode="json", by_alias=True),
        "environment.json": lambda: sorted(name for name in os.environ if name.startswith("STETHOS_")),
        "devices.json": lambda: [device_to_json(device) for device in list_devices()],
        "sound-cards.txt": lambda: Path("/proc/asound/cards").read_text(),
        "status.json": lambda: _status(config),
        "computer.json": lambda: _computer(config),
        "systemd.txt": lambda: _command("systemctl", "show", UNIT, f"--property={_PROPERTIES}"),
        "journal.txt": lambda: _command(
            "journalctl", f"--unit={UNIT}", f"--lines={JOURNAL_LINES}", "--no-pager", "--no-hostname", "--output=short-iso"
        ),
    }
    for name, settings in config.machines.items():
        facts[f"bundles/{name}.json"] = partial(_manifest, settings.bundle)
        facts[f"adapted/{name}.json"] = partial(_adapted, config, name)
    return {"README.txt": _README} | {name: _redacted(_try(fact), redactor) for name, fact in facts.items()}


def _to_hide(config: Config) -> dict[str, str]:
    mqtt = config.mqtt or MqttConfig()
    try:
        secret = password(mqtt)
    except StethosError:
        secret = None  # unreadable, so it cannot end up in the archive either
    return who_and_where(passwords=[secret, *_notify_urls(config)], users=[mqtt.user], hosts=[mqtt.host])


def _notify_urls(config: Config) -> Iterator[str]:
    """The URLs of `notify` and their parts, any of which may be a secret."""
    for name, target in config.notify.items():
        with suppress(StethosError):  # unreadable, so it cannot end up in the archive either
            yield from secret_parts(target.read_url(name))


def _try(fact: Callable[[], Any]) -> Any:
    try:
        return fact()
    except (StethosError, OSError, subprocess.SubprocessError, psutil.Error) as error:
        return {"error": str(error)}


def _redacted(fact: Any, redactor: Redactor) -> str:
    if isinstance(fact, str):
        return redactor.text(fact[-MAX_BYTES:])
    return json.dumps(redactor.tree(fact), indent=2, ensure_ascii=False, default=str) + "\n"


def _versions() -> dict[str, Any]:
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {**versions(), "kernel": platform.release(), "distribution": release.get("PRETTY_NAME"), "libc": platform.libc_ver()}


def _status(config: Config) -> Any:
    reply = request(config.runtime_dir / NAME, {"do": "status"})
    return {"error": "the service is not running"} if reply is None else reply.body


def _computer(config: Config) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    folders = {"state": config.state_dir, "runtime": config.runtime_dir, "temporary": Path("/tmp")}
    disks = {name: shutil.disk_usage(folder) for name, folder in folders.items() if folder.is_dir()}
    board = Path("/proc/device-tree/model")
    return {
        "board": board.read_text(errors="replace").strip("\0\n") if board.is_file() else None,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "uptime_s": round(time.time() - psutil.boot_time()),
        "temperature_c": Health(config.state_dir).read()["temperature_c"],
        "memory_mb": {"total": round(memory.total / 1e6), "available": round(memory.available / 1e6)},
        "disk_mb": {name: {"total": disk.total // 10**6, "free": disk.free // 10**6} for name, disk in disks.items()},
        "own_processes": _own_processes(),
    }


def _own_processes() -> list[dict[str, Any]]:
    """Running processes of Stethos, without their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline", "memory_info", "num_threads", "status"]):
        info = process.info
        words = " ".join(info["cmdline"] or ())
        for name in ("monitor.audio.capture", "monitor.cli.main", "bin/monitor"):
            if name in words and info["memory_info"] is not None:
                resident_mb = round(info["memory_info"].rss / 1e6, 1)
                found.append({"name": name, "resident_mb": resident_mb, "threads": info["num_threads"], "status": info["status"]})
                break
    return found


def _manifest(folder: Path) -> Any:
    read_manifest(folder)  # raises a one-line error if it is invalid
    return json.loads((folder / MANIFEST).read_text("utf-8"))


def _adapted(config: Config, machine: str) -> Any:
    """The machine's adaptations, and the manifest of the resulting bundle."""
    found = read_adaptation(config.state_dir, machine)
    if found is None:
        return {"learn": None, "calibrate": None}
    name = found.calibrate or found.learn
    with as_owner(config.state_dir) as state:
        manifest = None if name is None else _manifest(state / FOLDER / machine / name)
    return {**found.model_dump(), "manifest": manifest}


def _command(*words: str) -> str:
    """Run a command with a time limit and return its output. The command may not be installed."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False
    )
    return done.stdout + done.stderr


def _write(out: Path, files: dict[str, str]) -> None:
    """Write the files as one folder to a new archive that only its owner can read. The entries contain no user names."""
    folder = out.name.removesuffix(".zip").removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    folder = folder.encode(errors="replace").decode()  # a name may contain bytes that are not UTF-8
    try:
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(f"--out must be a new file, {out} exists") from error
    with os.fdopen(fd, "wb") as file:
        if out.suffix == ".zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in files.items():
                    archive.writestr(f"{folder}/{name}", text)
            return
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, text in files.items():
                content = text.encode()
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o644
                tar.addfile(entry, io.BytesIO(content))
