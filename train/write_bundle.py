"""Write a bundle: all of it aside, then moved to its place whole."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from monitor.bundle.bundle import load_bundle, sha256
from monitor.bundle.manifest import MANIFEST, Manifest
from train.preflight import check_place
from train.replace import replacing

MODEL = "model.tflite"
STATISTICS = "statistics.npz"
_OURS = re.compile(r"manifest\.json|model\.tflite|statistics\.npz|report/(training\.json|model_float32\.tflite|split/\w+\.txt)")


def write_bundle(out: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write files and manifest, load the result as `monitor` would, and put it where an older bundle may be.

    A failure or an interruption leaves what was there before; files of others in an older bundle stay.
    """
    check_place(out)
    with replacing(out, ours=is_ours) as aside:
        for name, content in {**files, MANIFEST: manifest_json(manifest)}.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        load_bundle(aside)


def is_ours(name: str) -> bool:
    """Whether a file of a bundle, by its path within, is what a bundle is written with, and not a person's notes."""
    return _OURS.fullmatch(name) is not None


def manifest_json(manifest: Manifest) -> bytes:
    """The manifest as people like to read it."""
    content = json.loads(manifest.model_dump_json(by_alias=True, exclude_none=True))
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def file_ref(name: str, content: bytes) -> dict[str, str]:
    """What a manifest says of a file."""
    return {"file": name, "sha256": sha256(content)}
