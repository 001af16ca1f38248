"""Load a bundle with a new model in a child process first, so that a crash of the runtime does not end the service.

python -m monitor.bundle.trial FOLDER
"""

import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from monitor.bundle.budget import DEVICE
from monitor.bundle.interpreter import RUNTIME
from monitor.bundle.load import Bundle, load_bundle
from monitor.bundle.manifest import read_manifest
from monitor.child_process import child_command
from monitor.errors import BundleError, StethosError
from monitor.files import atomic_write, read_regular

MEMORY = 4 * DEVICE.n_bytes  # bytes beyond those in use once everything is imported
CPU_S, WALL_S = 120, 240
MAX_TRIED, MAX_TRIED_BYTES = 100, 100_000


def load_after_trial(folder: Path, tried: Path) -> Bundle:
    """Load a bundle. If its model has not been tried on this device, a child process loads it first.

    The file `tried` keeps the hashes of models that have passed. BundleError if the child crashes, hangs or refuses the bundle.
    """
    key = f"{read_manifest(folder).model.sha256} {RUNTIME}"
    passed = _passed(tried)
    if key in passed:
        return load_bundle(folder)
    try_bundle(folder)
    bundle = load_bundle(folder)
    with suppress(OSError):  # it will be tried again
        atomic_write(tried, "".join(f"{one}\n" for one in [*passed, key][-MAX_TRIED:]).encode())
    return bundle


def _passed(tried: Path) -> list[str]:
    try:
        return read_regular(tried, max_bytes=MAX_TRIED_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def try_bundle(folder: Path) -> None:
    """Load the bundle in a child process; BundleError if that crashes, hangs or refuses it."""
    command = child_command("monitor.bundle.trial", str(folder))
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{folder}: loading it in a trial process took longer than {WALL_S} s; it is not used") from error
    except OSError as error:
        raise BundleError(f"{folder}: a trial process could not be started: {error.strerror}") from error
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise BundleError(f"{folder}: loading it ended a trial process with {name}; it is not used")
    if child.returncode > 0:
        lines = child.stdout.decode("utf-8", "replace").splitlines()
        raise BundleError(lines[-1] if lines else f"{folder}: a trial process failed with status {child.returncode}")


def main() -> int:
    """Load the bundle under limits of memory and CPU time; print the reason if it is refused."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in ((resource.RLIMIT_AS, in_use + MEMORY), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # a sandbox may forbid it; the time limit of the parent remains
            resource.setrlimit(limit, (value, value))
    try:
        load_bundle(Path(sys.argv[1]))
    except StethosError as error:
        print(error)
        return error.exit_status
    except MemoryError:
        print(f"{sys.argv[1]}: loading it needs more than {MEMORY / 1e6:.0f} MB of memory")
        return BundleError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
