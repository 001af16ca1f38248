"""`monitor update` against a real repository on a real web server, without a service: what is installed, kept and undone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from monitor.bundle import load_bundle
from monitor.files import lock
from tests.cli.bench import RATE_HZ, made
from tests.update.plant import ROOT, Node, Plant, changed_bundle
from train.release.releases import revoke, widen

pytestmark = pytest.mark.waits


@pytest.fixture
def node(tmp_path: Path, plant: Plant, demo_bundle: Path) -> Node:
    node = Node(tmp_path / "node", demo_bundle, plant.url)
    assert "trusted from now on" in node.run("update", "--trust", plant.root)
    return node


def test_a_release_is_installed_taken_back_and_installed_no_more(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path
) -> None:
    before = load_bundle(demo_bundle).id
    second = changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)
    third = changed_bundle(demo_bundle, tmp_path / "third", factor=1.2)
    ids = [load_bundle(folder).id for folder in (second, third)]
    assert node.run() == "fan: no release for this machine"
    plant.release(second, "pi/fan")
    assert node.run().startswith(f"fan: r0001: {ids[0]} installed")
    assert node.bundle_in_use() == ids[0]
    assert node.run() == f"fan: {ids[0]} of r0001 is in use"
    plant.release(third, "*/fan")
    node.run()
    installed = node.installed()
    assert (installed.current.bundle, installed.current.release) == (ids[1], "r0002")
    assert installed.previous is not None and installed.previous.bundle == ids[0]
    plant.change(lambda repository: revoke(repository, "hall-1", "r0002"))
    node.run()
    assert node.bundle_in_use() == ids[0]
    plant.change(lambda repository: revoke(repository, "hall-1", "r0001"))
    assert node.run().startswith(f"fan: back to the configured {before}")
    assert node.bundle_in_use() == before
    assert node.run() == "fan: no release for this machine"


def test_a_wave_reaches_the_machine_when_it_is_wide_enough(plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    second = changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)
    plant.release(second, "pi/fan", name="spring", wave=0.05)
    assert node.run() == "fan: no release for this machine"
    plant.change(lambda repository: widen(repository, "hall-1", "spring", 1.0))
    assert node.run().startswith("fan: spring: demo-fan@")


def test_an_undone_release_is_not_installed_again(plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    plant.release(changed_bundle(demo_bundle, tmp_path / "second", factor=1.1), "pi/fan")
    node.run()
    assert node.run("install-bundle", "--undo").startswith(f"fan: back to {load_bundle(demo_bundle).id}")
    assert node.run().endswith("is not tried again: r0001: undone on this node")
    assert node.run("install-bundle", "--undo", status=2).endswith("fan: there is no earlier bundle to go back to")


def folder_in_use(node: Node) -> Path:
    return node.folder / "installed" / "machines" / "fan" / str(node.installed().current.folder)


def test_a_damaged_bundle_is_repaired_and_meanwhile_the_one_before_is_used(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path
) -> None:
    second = changed_bundle(demo_bundle, tmp_path / "second", factor=1.1)
    plant.release(second, "pi/fan")
    node.run()
    (folder_in_use(node) / "model.tflite").write_bytes(b"x")
    assert f"bundle: {demo_bundle}" in node.run("check-config")
    assert node.run().startswith(f"fan: r0001: {load_bundle(second).id} was damaged and is repaired; ")
    assert f"bundle: {folder_in_use(node)}" in node.run("check-config")
    assert node.bundle_in_use() == load_bundle(second).id


def test_a_damaged_old_bundle_does_not_refuse_the_new_one(plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    plant.release(changed_bundle(demo_bundle, tmp_path / "second", factor=1.1), "pi/fan")
    node.run()
    (folder_in_use(node) / "manifest.json").write_text("{}")
    node.settings = "shadow_s: 10, require_shadow: true, trial_h: 0"
    node.configure()
    third = changed_bundle(demo_bundle, tmp_path / "third", factor=1.2)
    plant.release(third, "pi/fan")
    assert f"{load_bundle(third).id} installed without a comparison (" in node.run()
    assert node.bundle_in_use() == load_bundle(third).id
    assert node.installed().refused == {}
    assert f"back to {load_bundle(demo_bundle).id}" in node.run("install-bundle", "--undo")


def test_a_release_that_is_taken_back_leaves_the_machine_even_if_the_one_before_was_refused(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path
) -> None:
    folders = [changed_bundle(demo_bundle, tmp_path / f"b{n}", factor=1.0 + n / 10) for n in (1, 2, 3)]
    ids = [load_bundle(folder).id for folder in folders]
    for n, folder in enumerate(folders):
        plant.release(folder, "pi/fan")
        node.run()
        if n == 1:
            node.run("install-bundle", "--undo")
    assert node.bundle_in_use() == ids[2]
    plant.change(lambda repository: revoke(repository, "hall-1", "r0003"))
    assert node.run().startswith(f"fan: r0001: {ids[0]} installed")
    plant.release(folders[2], "pi/fan")
    node.run()
    plant.change(lambda repository: revoke(repository, "hall-1", "r0004"))
    plant.change(lambda repository: revoke(repository, "hall-1", "r0001"))
    assert node.run().startswith(f"fan: back to the configured {load_bundle(demo_bundle).id}")


def test_a_base_bundle_does_not_replace_one_that_detects(
    node: Node, tmp_path: Path, demo_bundle: Path, base_bundle: Path
) -> None:
    base, demo = load_bundle(base_bundle).id, load_bundle(demo_bundle).id
    assert node.run("install-bundle", base_bundle, status=78).endswith(
        f"fan: {base} is a base bundle and detects nothing until it has learned; {demo} stays"
    )
    assert node.run("install-bundle", base_bundle, "--force").startswith(f"fan: {base} installed")
    assert node.run("install-bundle", demo_bundle).startswith(f"fan: {demo} installed")


def test_a_link_in_place_of_the_bundles_is_refused(node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    (tmp_path / "disk" / "fan" / "own").mkdir(parents=True)
    machines = node.folder / "installed" / "machines"
    machines.parent.mkdir(exist_ok=True)
    machines.symlink_to(tmp_path / "disk")
    assert (
        f"{machines}: must be a folder, got a link to {tmp_path / 'disk'}; to use another disk, set update.state_dir"
        in node.run("install-bundle", demo_bundle, status=1)
    )
    assert (tmp_path / "disk" / "fan" / "own").is_dir()


def test_a_damaged_file_and_folders_of_others_remove_no_bundle(node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    node.run("install-bundle", changed_bundle(demo_bundle, tmp_path / "second", factor=1.1))
    bundle = folder_in_use(node)
    (bundle.parent / "installed.json").write_text("")
    assert node.run("install-bundle", "--undo", status=2).endswith("there is no earlier bundle to go back to")
    assert load_bundle(bundle).id == load_bundle(tmp_path / "second").id
    (bundle.parent / "mine").mkdir()
    node.run("install-bundle", changed_bundle(demo_bundle, tmp_path / "third", factor=1.2))
    assert (bundle.parent / "mine").is_dir() and not bundle.exists()


@pytest.mark.parametrize(
    "url", ["https://me:secret@plant.example/x", "https://plant.example/?secret", "https://plant.example/#secret"]
)
def test_an_address_with_a_password_is_refused_and_not_shown(url: str, tmp_path: Path, demo_bundle: Path) -> None:
    error = Node(tmp_path / "node", demo_bundle, url).run(status=78)
    assert "update.url must be an address such as https://plant.example/releases, without user:password@, ? and #" in error
    assert "secret" not in error


def test_its_time_and_memory(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    """Without a comparison; peak memory is that of the process or of the child that loads the bundle, whichever is more."""
    _, idle = node.measured("update")
    plant.release(changed_bundle(demo_bundle, tmp_path / "second", factor=1.1), "pi/fan")
    words, install = node.measured("update")
    assert "installed" in words
    record_property("figures", f"nothing new: {idle}; a bundle installed: {install}")


def test_what_is_missing_is_named_in_one_line(plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path) -> None:
    (node.folder / "root.json").unlink()
    assert "no repository is trusted yet: monitor update --trust 1.root.json" in node.run(status=1)
    (tmp_path / "no.json").write_text("{}")
    assert "--trust must be the root of a repository (1.root.json)" in node.run(
        "update", "--trust", tmp_path / "no.json", status=2
    )
    timestamp = plant.folder / "metadata" / "timestamp.json"
    assert "must be the root of a repository (1.root.json), got timestamp" in node.run("update", "--trust", timestamp, status=2)
    without = Node(tmp_path / "without", demo_bundle, None)
    assert without.run(status=2).endswith(
        "update.url must be the address of a repository, got null; docs/rollout.md describes it"
    )
    absent = tmp_path / "absent" / "tuf"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError(name='tuf')")
    error = node.run(status=1, environment={"PYTHONPATH": f"{absent.parent}:{ROOT}"})
    assert error.startswith("monitor: error: tuf is not installed for ") and error.endswith("pip install 'stethos[update]'")


def test_two_at_once_are_one_too_many(node: Node) -> None:
    (node.folder / "installed").mkdir()
    held = lock(node.folder / "installed" / "lock")
    try:
        assert node.run(status=1).endswith("another monitor update or install-bundle is running")
    finally:
        os.close(held)


def test_without_the_service_a_calibrated_machine_keeps_its_bundle_and_an_unknown_one_waits(
    plant: Plant, node: Node, tmp_path: Path, demo_bundle: Path
) -> None:
    plant.release(changed_bundle(demo_bundle, tmp_path / "second", factor=1.1), "pi/fan")
    as_in_the_unit = {"STETHOS_STATE_DIR": str(node.folder / "installed")}
    assert "so it is unknown whether it has learned on this node" in node.run("update", status=1, environment=as_in_the_unit)
    soundfile.write(tmp_path / "normal.wav", made("fan", take=90, seconds=90.0), RATE_HZ)
    node.run("calibrate", "--from", tmp_path / "normal.wav")
    assert node.run() == "fan keeps the bundle, which was calibrated on this node"
    assert node.installed().current.folder is None
