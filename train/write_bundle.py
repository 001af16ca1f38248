"""Write a bundle: all of it aside, then moved to its place whole."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from monitor.bundle.bundle import load_bundle, sha256
from monitor.bundle.manifest import MANIFEST, Manifest
from train.preflight import check_place

MODEL = "model.tflite"
STATISTICS = "statistics.npz"


def write_bundle(out: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write files and manifest, load the result as `monitor` would, and put it where an older bundle may be.

    A failure or an interruption leaves what was there before.
    """
    check_place(out)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, content in {**files, MANIFEST: manifest_json(manifest)}.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        load_bundle(aside)
        aside.chmod(0o755)
        _replace(out, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def manifest_json(manifest: Manifest) -> bytes:
    """The manifest as people like to read it."""
    content = json.loads(manifest.model_dump_json(by_alias=True, exclude_none=True))
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def file_ref(name: str, content: bytes) -> dict[str, str]:
    """What a manifest says of a file."""
    return {"file": name, "sha256": sha256(content)}


def _replace(out: Path, new: Path) -> None:
    old = new.with_name(new.name + "-old")
    with suppress(FileNotFoundError):
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
