"""The container image: its entry point replays a recording and serves, as its own user, from its own files."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.packages.conftest import Build

pytestmark = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="a minute; with scripts/test --long")
DEMO = "/usr/share/stethos"


class Image:
    """The image in a container storage of its own."""

    def __init__(self, folder: Path, archive: Path) -> None:
        storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        self._buildah = ["buildah", *storage]
        self.container = self.buildah("from", f"docker-archive:{archive}")
        self.root = Path(self.buildah("mount", self.container))
        self.config = json.loads(self.buildah("inspect", "--type=container", self.container))["OCIv1"]["config"]

    def buildah(self, *words: str) -> str:
        done = subprocess.run([*self._buildah, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def run(self, *words: str) -> str:
        """The output of the entry point with these arguments."""
        return self.buildah("run", "--isolation=chroot", self.container, "--", *self.config["Entrypoint"], *words)


@pytest.fixture(scope="module")
def image(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    need(shutil.which("buildah") is not None and os.geteuid() == 0, "root and buildah")
    folder = tmp_path_factory.mktemp("image")
    image = Image(folder, next(build("container").glob("*.tar")))
    yield image
    image.buildah("rm", image.container)
    shutil.rmtree(folder)


def test_its_entry_point_replays_a_recording_as_its_own_user(image: Image) -> None:
    lines = image.run("--replay", f"{DEMO}/demo/fan-bearing.flac", "--model", f"{DEMO}/models/demo-fan").splitlines()
    assert json.loads(lines[0])["event_type"] == "start"
    assert image.buildah("run", "--isolation=chroot", image.container, "--", "id", "--user", "--name") == "stethos"
    assert "audio" in image.buildah("run", "--isolation=chroot", image.container, "--", "id", "--name", "--groups")


def test_its_volumes_belong_to_that_user(image: Image) -> None:
    assert set(image.config["Volumes"]) == {"/etc/stethos", "/var/lib/stethos", "/var/lib/stethos-web", "/run/stethos"}
    settings = image.run("check-config")
    assert "state_dir: /var/lib/stethos\n" in settings
    assert "runtime_dir: /run/stethos\n" in settings
    writes = "touch /var/lib/stethos/a /var/lib/stethos-web/a /run/stethos/a; ! touch /usr/a 2>/dev/null"
    image.buildah("run", "--isolation=chroot", image.container, "--", "sh", "-ec", writes)
