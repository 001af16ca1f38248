"""Repositories that nodes read elsewhere: a bucket, and a copy by the lines of docs/rollout.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from monitor.bundle import load_bundle
from tests.conftest import need
from tests.s3 import running_s3
from tests.update.plant import ROOT, Node, Plant, changed_bundle, running_plant

pytestmark = pytest.mark.waits


def test_a_bucket_serves_a_repository(plant: Plant, tmp_path: Path, demo_bundle: Path) -> None:
    second = changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)
    plant.release(second, "pi/fan")
    with running_s3(tmp_path, "releases") as (url, s3):
        s3.put(f"{plant.folder}/", "releases/", recursive=True, ACL="public-read")
        node = Node(tmp_path / "node", demo_bundle, f"{url}/releases")
        node.run("update", "--trust", plant.root)
        assert node.run().startswith(f"fan: r0001: {load_bundle(second).id} installed")
        plant.release(changed_bundle(demo_bundle, tmp_path / "third", factor=1.2), "pi/fan")
        s3.put(f"{plant.folder}/", "releases/", recursive=True, ACL="public-read")
        assert node.run().startswith("fan: r0002: ")


def test_the_documented_lines_copy_a_repository(plant: Plant, tmp_path: Path, demo_bundle: Path) -> None:
    need(shutil.which("rsync") is not None, "Debian's rsync")
    blocks = re.findall(r"(?m)^rsync -a .*&&\n  rsync .*$", (ROOT / "docs" / "rollout.md").read_text())
    assert len(blocks) == 1
    script = blocks[0].replace("webserver:/srv/releases", "releases").replace("plant/", f"{plant.folder}/")
    second = changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)
    with running_plant(tmp_path / "other") as other:  # its server serves the copy
        for release in ("r0001", "r0002"):
            plant.release(second, "pi/fan", name=release)
            subprocess.run(["bash", "-ec", script], check=True, cwd=tmp_path)
            shutil.copytree(tmp_path / "releases", other.folder, dirs_exist_ok=True)
        node = Node(tmp_path / "node", demo_bundle, other.url)
        node.run("update", "--trust", plant.root)
        assert node.run().startswith(f"fan: r0002: {load_bundle(second).id} installed")
    assert not (tmp_path / "releases" / ".lock").exists()
