"""Write a bundle atomically."""

import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monitor.bundle.budget import DEVICE, WORKSTATION, check_budget
from monitor.bundle.load import load_bundle, sha256
from monitor.bundle.manifest import MANIFEST, Manifest
from monitor.bundle.network import check_network
from monitor.errors import BundleError, ConfigError, UsageError
from monitor.files import atomic_replace_dir

log = logging.getLogger(__name__)
MODEL = "model.tflite"
STATISTICS = "statistics.npz"
_OURS = re.compile(
    r"manifest\.json|model\.tflite|statistics\.npz|report/(training\.json|model_float32\.tflite|cross_fitted\.npz|split/\w+\.txt)"
)


def write_bundle(out: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write files and manifest, check that the result loads, and replace an existing bundle if there is one.

    A bundle that is too large for a device is written, with a warning.

    A failure or an interruption leaves the existing bundle unchanged. Other files in its folder are kept.
    """
    check_place(out)
    with atomic_replace_dir(out, is_ours=is_ours) as aside:
        for name, content in {**files, MANIFEST: manifest_json(manifest)}.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        bundle = load_bundle(aside, budget=WORKSTATION, network=files.get(MODEL))
    try:
        check_budget(manifest, check_network(bundle.model), DEVICE)
    except BundleError as problem:
        log.warning("%s: only for study, because the monitor will refuse it: %s", out, problem)


def check_place(out: Path) -> None:
    """Check that the folder may be written or replaced. BundleError or OSError if not."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise BundleError(f"{out}: must be a new folder or a bundle to replace")
    out.parent.mkdir(parents=True, exist_ok=True)


def bundle_name(out: Path) -> str:
    """The name of the bundle, which is that of its folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", out.name):
        raise UsageError(f"--out must end in a name of a-z, 0-9, _ and -, got {out.name!r}")
    return out.name


def is_ours(name: str) -> bool:
    """Whether a file, given by its path in the bundle, is part of the format, and not a file of the user."""
    return _OURS.fullmatch(name) is not None


def manifest_json(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    content = json.loads(manifest.model_dump_json(by_alias=True, exclude_none=True))
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def amended(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with some keys changed and the time updated."""
    content = {**dict(manifest), "schema": manifest.schema_, "created": created()}
    del content["schema_"]
    return Manifest.model_validate({**content, **changes})


def created() -> datetime:
    """The time that a manifest states: now, in seconds, or SOURCE_DATE_EPOCH, which makes bundles reproducible. ConfigError."""
    given = os.environ.get("SOURCE_DATE_EPOCH")  # https://reproducible-builds.org/specs/source-date-epoch/
    try:
        if given is not None:
            return datetime.fromtimestamp(int(given), timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"SOURCE_DATE_EPOCH must be seconds since 1970, got {given!r}") from error
    return datetime.now(timezone.utc).replace(microsecond=0)


def file_ref(name: str, content: bytes) -> dict[str, str]:
    """The reference to a file for the manifest."""
    return {"file": name, "sha256": sha256(content)}
