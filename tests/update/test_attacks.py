"""What a hostile web server, a stolen key, a wrong clock or a full disk can do to a node: the old bundle stays, with one line."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Targets

from monitor.bundle import load_bundle
from monitor.update.errors import UpdateError
from monitor.update.repository import SignedRepository
from tests.tmpfs import tmpfs
from tests.update.plant import Fault, Node, Plant, changed_bundle, endless, running_plant, short, trickling, truncated
from train.release.keys import KeyProblem, Keys
from train.release.repository import ReleaseError, open_repository
from train.release.rotation import rotate

pytestmark = pytest.mark.waits
LONG = "LONG_TESTS" in os.environ
N_KILLS = 200 if LONG else 4
FAULTS = [(fault, part) for fault in (endless, truncated, short) for part in ("timestamp.json", ".tar")]


@pytest.fixture
def node(tmp_path: Path, plant: Plant, demo_bundle: Path) -> Node:
    node = Node(tmp_path / "node", demo_bundle, plant.url)
    shutil.copy(plant.root, node.folder / "root.json")
    return node


@pytest.fixture
def second(tmp_path: Path, demo_bundle: Path) -> Path:
    return changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)


def restore(plant: Plant, state: dict[str, bytes], *names: str) -> None:
    """Serve some metadata files, by default all, as they were."""
    for name, content in state.items():
        if not names or name in names:
            (plant.folder / "metadata" / name).write_bytes(content)


def test_an_older_state_is_refused(plant: Plant, node: Node, second: Path) -> None:
    before = plant.state()
    plant.release(second, "pi/fan")
    node.run()
    restore(plant, before)
    assert "an older state than the one seen before is being served" in node.run(status=1)
    assert node.bundle_in_use() == load_bundle(second).id


def test_a_frozen_repository_expires(tmp_path: Path, demo_bundle: Path) -> None:
    past = datetime.now(timezone.utc) - timedelta(days=8)
    with running_plant(tmp_path / "web", now=past) as plant:
        node = Node(tmp_path / "node", demo_bundle, plant.url)
        shutil.copy(plant.root, node.folder / "root.json")
        error = node.run(status=1)
        assert "timestamp.json is expired" in error and "(train release refresh)" in error
        plant.now = None
        plant.change(lambda repository: repository.commit(snapshot=False))
        assert node.run() == "fan: no release for this machine"


def test_metadata_of_two_states_does_not_mix(plant: Plant, node: Node, second: Path, tmp_path: Path, demo_bundle: Path) -> None:
    plant.release(second, "pi/fan")
    one = plant.state()
    plant.release(changed_bundle(demo_bundle, tmp_path / "third", factor=1.2), "pi/fan")
    for newest, old in (("3.hall-1.json", "2.hall-1.json"), ("3.snapshot.json", "2.snapshot.json")):
        kept = plant.state()
        (plant.folder / "metadata" / newest).write_bytes(one[old])
        assert "a file is not the one that was signed" in node.run(status=1)
        restore(plant, kept)
        shutil.rmtree(node.folder / "installed" / "metadata")
    assert node.run().startswith("fan: r0002: ")


def test_a_stranger_s_keys_are_not_believed(plant: Plant, node: Node, second: Path, tmp_path: Path) -> None:
    with running_plant(tmp_path / "other") as other:
        other.release(second, "pi/fan")
        restore(plant, {name: content for name, content in other.state().items() if name != "1.root.json"})
        assert "not signed by the trusted keys" in node.run(status=1)
    assert node.bundle_in_use() == load_bundle(node.bundle).id


def test_the_key_of_one_hall_cannot_release_to_another(plant: Plant, node: Node, second: Path) -> None:
    """Neither under the role of the other, nor under the other's paths."""
    plant.release(second, "pi/fan", group="hall-2")
    content = (plant.folder / "metadata" / "2.hall-2.json").read_bytes()
    foreign: Metadata[Targets] = Metadata.from_bytes(content)
    with plant.open() as repository:
        repository.groups["hall-2"].signed.targets = {
            path.replace("hall-2/", "hall-1/"): target for path, target in foreign.signed.targets.items()
        }
        repository.save("hall-2")
        repository.commit()
    assert node.run() == "fan: no release for this machine"
    path = plant.folder / "metadata" / "1.hall-1.json"
    path.write_bytes(content)
    shutil.rmtree(node.folder / "installed" / "metadata")
    assert "a file is not the one that was signed" in node.run(status=1)


def test_a_web_server_with_the_online_keys_cannot_pass_off_another_hall_s_signature(
    plant: Plant, node: Node, second: Path
) -> None:
    """Snapshot and timestamp list the forged file: its signature is still that of the wrong key."""
    plant.release(second, "pi/fan", group="hall-2")
    forged = (plant.folder / "metadata" / "2.hall-2.json").read_bytes()
    with plant.open() as repository:
        repository.snapshot.signed.meta["hall-1.json"] = MetaFile.from_data(2, forged, ["sha256"])
        repository.commit()
    (plant.folder / "metadata" / "2.hall-1.json").write_bytes(forged)
    assert "not signed by the trusted keys" in node.run(status=1)
    with pytest.raises(ReleaseError, match="cannot be trusted"), plant.open():
        pass


def test_online_keys_cannot_sign_a_release(plant: Plant, second: Path, tmp_path: Path) -> None:
    online = tmp_path / "online"
    online.mkdir()
    for name in ("snapshot", "timestamp"):
        for file in plant.keys.folders[0].glob(f"{name}-*.pem"):
            shutil.copy(file, online)
    plant.keys = Keys([online])
    with pytest.raises(KeyProblem, match="hall-1 needs 1 signature"):
        plant.release(second, "pi/fan")


@pytest.mark.parametrize(("fault", "part"), FAULTS if LONG else FAULTS[1:5:2])
def test_a_download_that_is_cut_or_never_ends_changes_nothing(
    plant: Plant, node: Node, second: Path, fault: Fault, part: str
) -> None:
    plant.release(second, "pi/fan")
    plant.server.faults[part] = fault
    began = time.monotonic()
    error = node.run(status=1)
    assert plant.url in error
    assert time.monotonic() - began < 30
    assert node.bundle_in_use() == load_bundle(node.bundle).id
    plant.server.faults.clear()
    assert node.run().startswith("fan: r0001: ")


def test_a_download_that_trickles_is_given_up(plant: Plant, node: Node, second: Path) -> None:
    plant.release(second, "pi/fan")
    node.settings = "shadow_s: 0, trial_h: 0, timeout_s: 3"
    node.configure()
    plant.server.faults[".tar"] = trickling
    began = time.monotonic()
    assert node.run(status=1).endswith("too slow: a download may take 3 s (update.timeout_s)")
    assert time.monotonic() - began < 20


def test_a_server_that_is_not_there_is_named(plant: Plant, node: Node) -> None:
    plant.server.shutdown()
    plant.server.server_close()
    assert node.run(status=1) == f"monitor: error: {plant.url}: cannot be reached: Connection refused"


def test_a_clock_that_has_never_been_set_is_reported(plant: Plant, tmp_path: Path) -> None:
    """One that is ahead makes every signature expire, as in the frozen repository."""
    now = datetime(2000, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(UpdateError, match="clock is wrong: it shows 2000-01-01 00:00 UTC, before 2026-11-30 00:00; set it"):
        SignedRepository(plant.url, root=plant.root, folder=tmp_path / "state", timeout_s=5, now=now)


def test_a_clock_that_went_back_is_reported(plant: Plant, node: Node) -> None:
    node.run()
    seen = node.folder / "installed" / "metadata" / "timestamp.json"
    later = time.time() + 3 * 86_400
    os.utime(seen, (later, later))
    assert "this computer's clock is wrong" in node.run(status=1)


def test_a_full_disk_leaves_the_old_bundle(plant: Plant, node: Node, second: Path, tmp_path: Path) -> None:
    plant.release(second, "pi/fan")
    need_bytes = sum(path.stat().st_size for path in second.iterdir() if path.is_file())
    (node.folder / "installed").mkdir(exist_ok=True)
    for n_bytes in (8_192, 65_536, need_bytes // 2, need_bytes) if LONG else (need_bytes // 2,):
        (tmp_path / str(n_bytes)).mkdir()
        with tmpfs(tmp_path / str(n_bytes), n_bytes=n_bytes) as disk:
            text = node.config.read_text()
            node.config.write_text(text.replace("state_dir: installed", f"state_dir: {disk}"))
            error = node.run(status=1)
            assert "No space left on device" in error
            node.config.write_text(text)
            assert not [*disk.glob("machines/fan/demo-fan-*")]
    assert node.run().startswith("fan: r0001: ")


def test_a_limit_of_file_sizes_leaves_the_old_bundle(plant: Plant, node: Node, second: Path) -> None:
    plant.release(second, "pi/fan")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        node.command("update"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert node.bundle_in_use() == load_bundle(node.bundle).id


def test_a_power_cut_at_any_time_leaves_one_valid_bundle_and_the_next_run_completes(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    bundles = [changed_bundle(demo_bundle, tmp_path / f"b{n}", factor=1.0 + n / 50) for n in range(1, 5)]
    ids = {load_bundle(folder).id: folder for folder in bundles}
    valid = {*ids, load_bundle(demo_bundle).id}
    random.seed(1)
    n_killed = n_done = 0
    plant.release(bundles[0], "pi/fan")
    began = time.monotonic()
    node.run()
    takes_s = time.monotonic() - began
    for n in range(1, N_KILLS + 1):
        wanted = bundles[n % len(bundles)]
        plant.release(wanted, "pi/fan")
        began, process = time.monotonic(), node.start("update")
        try:
            process.wait(random.uniform(0.3, 1.0) * takes_s)
            takes_s = time.monotonic() - began
            n_done += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            n_killed += 1
        process.communicate()
        assert node.bundle_in_use() in valid
        if n % 4 == 0:
            node.run()
            assert node.bundle_in_use() == load_bundle(wanted).id
            kept = {path.name for path in (node.folder / "installed" / "machines" / "fan").iterdir() if path.is_dir()}
            assert len(kept) <= 2
    record_property("figures", f"{n_killed} runs killed at random times, {n_done} complete")
    assert n_killed >= N_KILLS // 4


def test_a_stolen_key_is_worthless_after_the_rotation(plant: Plant, node: Node, tmp_path: Path) -> None:
    """Of every role: the node follows the new root, and what the old key signs is refused."""
    stolen = tmp_path / "stolen"
    shutil.copytree(plant.keys.folders[0], stolen)
    node.run()
    for role in ("timestamp", "snapshot", "targets", "hall-1", "root"):
        with plant.open() as repository:
            rotate(repository, role, out=tmp_path / "new")
        plant.keys = Keys([*plant.keys.folders, tmp_path / "new"])
        assert node.run() == "fan: no release for this machine"
    with open_repository(plant.folder, Keys([stolen])) as repository, pytest.raises(KeyProblem, match="0 are in"):
        repository.commit()
    with plant.open() as repository:
        group = repository.groups["hall-1"]
        group.signatures.clear()
        (file,) = stolen.glob("hall-1-*.pem")
        group.sign(CryptoSigner(load_pem_private_key(file.read_bytes(), None)))
        group.signed.version += 1
        forged = group.to_bytes()
        repository.snapshot.signed.meta["hall-1.json"] = MetaFile.from_data(group.signed.version, forged, ["sha256"])
        repository.commit()
        (plant.folder / "metadata" / f"{group.signed.version}.hall-1.json").write_bytes(forged)
    assert "not signed by the trusted keys" in node.run(status=1)
