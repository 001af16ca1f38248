"""The archive of a bundle: the same bytes for the same bundle, and nothing outside of its folder."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.bundle import load_bundle
from monitor.errors import BundleError
from monitor.releases.archive import pack, unpack
from tests.update.plant import Node, changed_bundle


def entry(name: str, content: bytes = b"x", **values: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in values.items():
        setattr(member, key, value)
    return member, content


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_bundle_packed_twice_gives_the_same_bytes_and_comes_back_as_it_was(tmp_path: Path, demo_bundle: Path) -> None:
    shutil.copytree(demo_bundle, tmp_path / "copy", copy_function=shutil.copy)
    (tmp_path / "copy" / "notes.txt").write_text("not part of the bundle")
    content = pack(demo_bundle)
    assert pack(tmp_path / "copy") == content
    (tmp_path / "out").mkdir()
    digest = unpack(content, tmp_path / "out", what="it")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "model.tflite", "statistics.npz"]
    assert load_bundle(tmp_path / "out").digest == digest == load_bundle(demo_bundle).digest


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15}
HOSTILE: dict[str, Callable[[], bytes]] = {
    "leads out": lambda: archive(entry("../manifest.json")),
    "leads out by a folder": lambda: archive(entry("..", b"", type=tarfile.DIRTYPE), entry("../manifest.json")),
    "absolute in /": lambda: archive(entry("/manifest.json")),
    "two folders": lambda: archive(entry("a/manifest.json"), entry("b/manifest.json")),
    "deep": lambda: archive(entry("a/b/manifest.json")),
    "absolute": lambda: archive(entry("/tmp/manifest.json")),
    "hidden": lambda: archive(entry(".ssh")),
    "symbolic link": lambda: archive(entry("manifest.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": lambda: archive(entry("manifest.json", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "device": lambda: archive(entry("manifest.json", b"", type=tarfile.CHRTYPE)),
    "folder": lambda: archive(entry("report", b"", type=tarfile.DIRTYPE)),
    "twice": lambda: archive(entry("manifest.json"), entry("manifest.json")),
    "many": lambda: archive(*(entry(f"f{n}") for n in range(1000))),
    "sparse": lambda: archive(
        entry(
            "manifest.json", b"x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15}
        )
    ),
    "no manifest": lambda: archive(entry("model.tflite")),
    "no JSON": lambda: archive(entry("manifest.json", b"{")),
    "compressed": lambda: b"\x1f\x8b" + bytes(1000),
    "empty": bytes,
    "zeros": lambda: bytes(10_240),
    "cut": lambda: archive(entry("manifest.json", bytes(5000)))[:1000],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_writes_nothing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError) as caught:
        unpack(HOSTILE[kind](), tmp_path / "out", what="fan.tar")
    assert "\n" not in str(caught.value)
    assert [*(tmp_path / "out").iterdir()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("of", [("demo-fan",), ("-C", "demo-fan", "."), ("demo-fan/manifest.json", "demo-fan/model.tflite")])
def test_an_archive_that_tar_made_of_the_folder_is_one_of_the_bundle(
    of: tuple[str, ...], tmp_path: Path, demo_bundle: Path
) -> None:
    folder = tmp_path / "demo-fan"
    folder.mkdir()
    for name in ("manifest.json", "model.tflite", "statistics.npz"):
        shutil.copy(demo_bundle / name, folder)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "fan.tar", *of], check=True)
    content = (tmp_path / "fan.tar").read_bytes()
    if len(of) == 2:
        with pytest.raises(
            BundleError, match=r"got manifest\.json, model\.tflite; make it with: tar -cf FILE -C FOLDER manifest"
        ):
            unpack(content, tmp_path / "out", what="fan.tar")
    else:
        assert unpack(content, tmp_path / "out", what="fan.tar") == load_bundle(demo_bundle).digest


def test_one_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"fan.tar: must have at most 66 MB, got 70\.0 MB"):
        unpack(bytes(70_000_000), tmp_path, what="fan.tar")


@pytest.mark.waits
def test_install_bundle_takes_a_folder_or_a_file_and_goes_back(tmp_path: Path, demo_bundle: Path) -> None:
    node = Node(tmp_path / "node", demo_bundle, None)
    good = load_bundle(changed_bundle(demo_bundle, tmp_path / "good", factor=1.1))
    (tmp_path / "good.tar").write_bytes(pack(tmp_path / "good"))
    assert node.run("install-bundle", tmp_path / "good", "--machine", "fan").startswith(f"fan: {good.id} installed")
    assert node.bundle_in_use() == good.id
    assert f"bundle: {node.folder}/installed/machines/fan/" in node.run("check-config")
    node.run("install-bundle", "--undo", "--machine", "fan")
    assert node.bundle_in_use() == load_bundle(demo_bundle).id
    node.run("install-bundle", tmp_path / "good.tar")
    assert node.bundle_in_use() == good.id
    assert node.run("install-bundle", tmp_path / "good.tar") == f"fan: {good.id} is in use already"
    (tmp_path / "bad.tar").write_bytes(b"nonsense")
    assert f"{tmp_path}/bad.tar: is not an archive of a bundle" in node.run("install-bundle", tmp_path / "bad.tar", status=78)
    broken = changed_bundle(demo_bundle, tmp_path / "broken")
    (broken / "model.tflite").write_bytes(b"x")
    assert "is not the file of the manifest" in node.run("install-bundle", broken, status=78)
    assert "--machine must be one of fan" in node.run("install-bundle", broken, "--machine", "pump", status=2)
    assert node.run("install-bundle", status=2).endswith("either FILE or --undo must be given")
    assert node.bundle_in_use() == good.id
    assert len([path for path in (node.folder / "installed" / "machines" / "fan").iterdir() if path.is_dir()]) == 1


def test_a_bundle_that_does_not_give_its_golden_score_is_refused(tmp_path: Path, demo_bundle: Path) -> None:
    node = Node(tmp_path / "node", demo_bundle, None)
    wrong = changed_bundle(demo_bundle, tmp_path / "wrong")
    text = (wrong / "manifest.json").read_text()
    score = load_bundle(demo_bundle).manifest.golden.score
    (wrong / "manifest.json").write_text(text.replace(str(score), str(score * 1.1)))
    assert "golden score must be" in node.run("install-bundle", wrong, status=78)
    assert node.bundle_in_use() == load_bundle(demo_bundle).id
