"""`train release` as a person uses it: one command each, keys in files, and refusals in one line."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from monitor.bundle import load_bundle
from monitor.files import atomic_write, lock
from monitor.releases.index import Index, index_path, position
from train.cli.main import main
from train.release.keys import Keys
from train.release.releases import read_releases
from train.release.repository import open_repository

ROOT = Path(__file__).parents[3]
LONG = "LONG_TESTS" in os.environ


class Release:
    """`train release ACTION plant …` in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.repository = folder / "plant"

    def __call__(self, action: str, *words: object, status: int = 0) -> str:
        """The output, or the error."""
        try:
            got = main(["release", action, str(self.repository), *map(str, words)])
        except SystemExit as stop:
            got = int(str(stop.code))
        out, err = self.capsys.readouterr()
        assert got == status, (out, err)
        return str((out if status == 0 else err).strip())

    def index(self, group: str = "plant") -> Index:
        with open_repository(self.repository, Keys([])) as repository:
            return read_releases(repository, group)

    def version(self, role: str) -> int:
        files = (self.repository / "metadata").glob(f"*.{role}.json")
        return max(int(path.name.split(".")[0]) for path in files)


@pytest.fixture
def release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Release:
    return Release(tmp_path, capsys)


def test_init_writes_keys_that_only_their_owner_can_read_and_two_of_three_must_sign_the_root(release: Release) -> None:
    words = release("init", "--group", "hall-1", "--group", "hall-2", "--offline-keys", release.folder / "stick")
    assert words.splitlines()[1].endswith("monitor update --trust 1.root.json")
    online, offline = release.folder / "plant-keys", release.folder / "stick"
    assert {path.name.rpartition("-")[0] for path in online.glob("*.pem")} == {"snapshot", "timestamp", "hall-1", "hall-2"}
    assert {path.name.rpartition("-")[0] for path in offline.glob("*.pem")} == {"root", "targets"}
    assert {stat.S_IMODE(path.stat().st_mode) for folder in (online, offline) for path in folder.glob("*.pem")} == {0o600}
    assert not [*release.repository.rglob("*.pem")]
    root: Metadata[Root] = Metadata.from_bytes((release.repository / "metadata" / "1.root.json").read_bytes())
    assert root.signed.consistent_snapshot
    assert {name: (role.threshold, len(role.keyids)) for name, role in root.signed.roles.items()} == {
        "root": (2, 3),
        "targets": (1, 1),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    keys = [set(role.keyids) for role in root.signed.roles.values()]
    assert sum(map(len, keys)) == len(set().union(*keys))
    targets: Metadata[Targets] = Metadata.from_bytes((release.repository / "metadata" / "1.targets.json").read_bytes())
    assert targets.signed.delegations is not None and targets.signed.delegations.roles is not None
    assert {name: role.paths for name, role in targets.signed.delegations.roles.items()} == {
        group: [f"{group}/*", f"{group}/bundles/*"] for group in ("hall-1", "hall-2")
    }


def test_what_cannot_be_made_is_refused_in_one_line(release: Release, demo_bundle: Path) -> None:
    assert "is not a repository of releases" in release("status", status=1)
    assert "--offline-keys must not be in the repository" in release(
        "init", "--offline-keys", release.repository / "keys", status=2
    )
    assert "--keys must not be in the repository, which is served to everybody" in release(
        "init", "--keys", release.repository / "keys", status=2
    )
    assert "must be ROLE=M/N" in release("init", "--threshold", "root=3/2", status=2)
    assert "must be ROLE=DAYS" in release("init", "--expires", "timestamp=0", status=2)
    assert "be no role of TUF, got 'snapshot'" in release("init", "--group", "snapshot", status=2)
    release("init", "--group", "hall-1", "--group", "hall-2")
    assert "is a repository already" in release("init", status=2)
    assert "--group must be one of hall-1, hall-2, got none" in release("publish", demo_bundle, status=2)
    assert "has no group hall-3; it has hall-1, hall-2" in release("publish", demo_bundle, "--group", "hall-3", status=1)
    assert "--machine must be NODE/MACHINE" in release(
        "publish", demo_bundle, "--group", "hall-1", "--machine", "pi-01", status=2
    )
    assert "must be a share above 0%" in release("publish", demo_bundle, "--group", "hall-1", "--wave", "0%", status=2)
    assert "cannot be read" in release("publish", release.folder, "--group", "hall-1", status=78)
    assert "hall-1 has no release r0001; the latest are none" in release("revoke", "r0001", "--group", "hall-1", status=2)
    assert release.version("snapshot") == 1


def test_waves_contain_each_other_and_stop_when_the_first_one_alarms(release: Release, demo_bundle: Path) -> None:
    release("init")
    words = release("publish", demo_bundle, "--machine", ",".join(f"pi-{n:02d}/fan" for n in range(40)), "--wave", "15%")
    bundle = load_bundle(demo_bundle).id
    assert words.splitlines()[0].startswith(f"released {bundle} as r0001 to plant: pi-00/fan, pi-01/fan")
    before = {n for n in range(40) if release.index().desired(f"pi-{n:02d}", "fan")}
    assert before == {n for n in range(40) if position(f"pi-{n:02d}", "fan", "r0001") < 0.15}
    counts = release.folder / "counts"
    nodes = [f"stethos/pi-{n:02d}/bundle/current" for n in sorted(before)]
    outside = next(f"stethos/pi-{n:02d}/bundle/current" for n in range(40) if n not in before)

    def report(alarms: int, hours: float, **more: object) -> None:
        machine = {"bundle": bundle, "release": "r0001", "alarms": alarms, "hours": hours, **more}
        old = {"bundle": "old@0", "release": None, "alarms": 99, "hours": 1.0, "refused": None}
        line = json.dumps({"schema": 1, "group": "plant", "machines": {"fan": machine, "pump": old}})
        bad = json.dumps({"machines": {"fan": machine | {"alarms": 99, "hours": 99.0, "refused": "r0001: fan: no"}}})
        lines = [
            f"{nodes[0]} {bad}",  # not the last
            f"{nodes[0]} {line}",
            "",
            f"{nodes[1]} {line}",
            f"other/{nodes[0]} {json.dumps({'group': 'hall-9'} | json.loads(bad))}",
            f"{outside} {bad}",
            f"stethos/elsewhere/bundle/current {bad}",
            "stethos/gone/bundle/current (null)",
        ]
        counts.write_text("\n".join(lines))

    report(0, 3.0)
    assert "2 machines used it for 6.0 h together, at least 24 h are needed" in release(
        "wave", "r0001", "25%", "--alarms", counts, status=1
    )
    report(3, 24.0)
    assert "6 alarms of 2 machines in 48.0 h, 3.00 a machine and day; at most 0.2 are allowed" in release(
        "wave", "r0001", "25%", "--alarms", counts, status=1
    )
    report(0, 48.0, refused="r0001: fan: it raised an anomaly")
    assert "2 machines refused it or went back; the first: r0001: fan: it raised" in release(
        "wave", "r0001", "25%", "--alarms", counts, status=1
    )
    counts.write_text("nonsense\n")
    assert f"--alarms: line 1 of {counts}: must begin with a topic" in release(
        "wave", "r0001", "25%", "--alarms", counts, status=2
    )
    counts.write_text(f"{nodes[0]} nonsense\n")
    assert f"--alarms: line 1 of {counts}: is not JSON" in release("wave", "r0001", "25%", "--alarms", counts, status=2)
    report(0, 48.0)
    assert release("wave", "r0001", "25%", "--alarms", counts).startswith("r0001: no alarms of 2 machines in 96.0 h")
    after = {n for n in range(40) if release.index().desired(f"pi-{n:02d}", "fan")}
    assert before < after < set(range(40))
    assert "the wave must exceed that of r0001 (0.25), got 0.1" in release("wave", "r0001", "10%", status=2)
    release("wave", "r0001", "100%")
    assert {n for n in range(40) if release.index().desired(f"pi-{n:02d}", "fan")} == set(range(40))


def test_a_share_of_many_machines_is_that_share() -> None:
    places = [position(f"pi-{n}", "fan", "r0001") for n in range(5000)]
    assert all(0.0 <= place < 1.0 for place in places)
    for share in (0.05, 0.25, 0.5):
        assert abs(sum(place < share for place in places) / 5000 - share) < 0.02
    assert position("pi-1", "fan", "r0001") == pytest.approx(0.963601, abs=1e-6)  # the same on every computer


def test_one_release_may_have_a_bundle_for_each_machine(release: Release, demo_bundle: Path, root: Path) -> None:
    release("init")
    base = root / "models" / "base"
    words = (f"pi-01/fan={demo_bundle}", f"pi-02/fan={demo_bundle}", f"*/pump={base}", "--name", "spring")
    assert "base is a base bundle, which detects nothing" in release("publish", *words, status=2)
    release("publish", *words, "--base")
    index = release.index()
    found = {name: index.desired(*name.split("/")) for name in ("pi-01/fan", "pi-02/fan", "pi-03/fan", "pi-09/pump")}
    ids = {name: None if one is None else one[1].bundle for name, one in found.items()}
    demo = load_bundle(demo_bundle).id
    assert ids == {"pi-01/fan": demo, "pi-02/fan": demo, "pi-03/fan": None, "pi-09/pump": load_bundle(base).id}
    assert "--name must be new, but plant has a release spring" in release("publish", demo_bundle, "--name", "spring", status=2)
    assert "spring of" in release("status") and "for */pump" in release("status")


def test_every_machine_is_released_to_once_and_numbers_skip_names(release: Release, demo_bundle: Path) -> None:
    release("init")
    release("publish", demo_bundle, "--machine", "pi-01/fan,pi-02/fan", "--machine", "pi-03/fan", "--name", "r0002")
    assert release.index().releases[0].bundles[0].machines == ("pi-01/fan", "pi-02/fan", "pi-03/fan")
    for words in (
        (demo_bundle, "--machine", "pi-01/fan,pi-01/fan"),
        (demo_bundle, "--machine", "pi-01/fan", "--machine", "pi-01/fan"),
        (f"pi-01/fan={demo_bundle}", f"pi-01/fan={demo_bundle}"),
    ):
        assert "but pi-01/fan is named twice" in release("publish", *words, status=2)
    release("publish", demo_bundle)
    release("publish", demo_bundle)
    assert [(one.number, one.name) for one in release.index().releases] == [(1, "r0002"), (3, "r0003"), (4, "r0004")]


def test_an_init_that_was_killed_is_made_again(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("train.release.repository.Repository.save_root", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            release("init")
    assert "--group must be given once for each group" in release("init", "--group", "a", "--group", "a", status=2)
    release("init")
    assert release("status").startswith("root: version 1, ")


def test_new_keys_go_where_the_old_ones_were(release: Release, demo_bundle: Path) -> None:
    sticks = [release.folder / f"stick-{n}" for n in range(3)]
    release("init", *(word for stick in sticks for word in ("--offline-keys", stick)))
    assert [len([*stick.glob("root-*.pem")]) for stick in sticks] == [1, 1, 1]
    offline = ("--keys", sticks[0], "--keys", sticks[1])
    keys = release.folder / "plant-keys"
    for role, words in (("plant", ()), ("timestamp", ()), ("targets", ()), ("root", ("--keys", sticks[2]))):
        places = [keys, *sticks]
        old = {path for folder in places for path in folder.glob(f"{role}-*.pem")}
        lines = release("rotate", role, *offline, *words).splitlines()
        assert {f"delete {path}" for path in old} == set(lines[-len(old) :])
        new = {path for folder in places for path in folder.glob(f"{role}-*.pem")} - old
        assert sorted(path.parent for path in new) == sorted(path.parent for path in old)
        for path in old:
            path.unlink()
    release("publish", demo_bundle)
    release("refresh")
    release("rotate", "snapshot", *offline)


def test_the_oldest_release_that_no_machine_needs_makes_room(
    release: Release, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.release.releases.MAX_RELEASES", 3)
    release("init")
    for node in ("pi-01", "pi-02", "pi-02"):
        release("publish", demo_bundle, "--machine", f"{node}/fan")
    release("publish", demo_bundle, "--machine", "pi-03/fan", "--wave", "5%")
    assert [one.name for one in release.index().releases] == ["r0001", "r0003", "r0004"]
    assert "too many releases or bundles" in release("publish", demo_bundle, "--machine", "pi-04/fan", status=1)
    release("revoke", "r0003")
    release("publish", demo_bundle, "--machine", "pi-04/fan")
    assert [one.name for one in release.index().releases] == ["r0001", "r0004", "r0005"]
    monkeypatch.setattr("train.release.releases.MAX_BYTES", len(release.index().content()))
    release("publish", demo_bundle, "--machine", "*/*", "--name", "all")
    assert [one.name for one in release.index().releases] == ["r0004", "r0005", "all"]


def test_keys_with_a_passphrase_need_it_and_the_timer_s_keys_do_not(release: Release, demo_bundle: Path) -> None:
    secret, wrong = release.folder / "secret", release.folder / "wrong"
    secret.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    release("init", "--passphrase-file", secret)
    keys = release.folder / "plant-keys"
    encrypted = {path.name.rpartition("-")[0] for path in keys.glob("*.pem") if b"ENCRYPTED" in path.read_bytes()}
    assert encrypted == {"root", "targets", "plant"}
    assert "is encrypted: give --passphrase-file FILE" in release("publish", demo_bundle, status=1)
    assert "the passphrase is wrong" in release("publish", demo_bundle, "--passphrase-file", wrong, status=1)
    assert release.version("plant") == 1
    release("publish", demo_bundle, "--passphrase-file", secret)
    assert release("refresh").startswith("snapshot: expires on ")


def test_a_key_that_other_users_can_read_is_named_once(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:  # in one of pytest's folders nobody else can
        Path(name).chmod(0o755)
        keys = Path(name) / "keys"
        release("init", "--keys", keys)
        (key,) = keys.glob("timestamp-*.pem")
        keys.chmod(0o755)
        key.chmod(0o644)
        assert main(["release", "refresh", str(release.repository), "--keys", str(keys)]) == 0
        warning = f"warning: other users can read the key {key}; run: chmod go-rwx {key}\n"
        assert capsys.readouterr().err == warning


def test_status_names_what_expires_and_exits_with_1(release: Release) -> None:
    release("init", "--expires", "timestamp=1")
    error = release("status", status=1)
    assert "expires soon: timestamp expires on" in error and error.endswith("in 1 day: train release refresh")
    assert "targets expires on" in release("status", "--days", 400, status=1)
    assert "root: version 1, expires on" in release("status", "--days", "0.5")


@pytest.mark.parametrize("option", ["--max-alarms", "--min-hours"])
def test_no_limit_of_a_wave_is_not_a_number(release: Release, option: str) -> None:
    error = release("wave", "r0001", "50%", "--alarms", "counts", option, "nan", status=2)
    assert f"argument {option}: must be a number above 0, got 'nan'" in error


def test_a_lost_root_key_is_replaced_by_the_two_that_are_left(release: Release) -> None:
    release("init")
    keys = release.folder / "plant-keys"
    lost, *left = sorted(keys.glob("root-*.pem"))
    lost.unlink()
    assert "new key" in release("rotate", "root", "--key", lost.stem.removeprefix("root-"))
    assert release("status", "--days", 1).splitlines()[0].count("(here)") == 3
    for path in left:
        path.unlink()
    assert "root needs 2 signatures, but of its keys 1 are in" in release("rotate", "timestamp", status=1)
    assert release.version("root") == 2
    assert "must be a key of root" in release("rotate", "root", "--key", "ffff", status=2)
    assert "has no role hall-9; it must be one of root, targets, snapshot, timestamp, plant" in release(
        "rotate", "hall-9", status=1
    )


class Killed(BaseException):
    """The process ends."""


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "plant"])
def test_a_rotation_that_is_killed_leaves_a_valid_repository_and_is_completed(
    role: str, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release("init")
    keys = release.folder / "plant-keys"
    for lost in keys.glob(f"{role}-*.pem"):
        lost.unlink()
    original, n_writes = release.folder / "original", 0
    shutil.copytree(release.repository, original)
    killed = True
    while killed:
        shutil.rmtree(release.repository)
        shutil.copytree(original, release.repository)
        left = n_writes = n_writes + 1

        def write(path: Path, content: bytes, **options: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            atomic_write(path, content, **options)

        with monkeypatch.context() as patch:
            patch.setattr("train.release.repository.atomic_write", write)
            try:
                release("rotate", role)
                killed = False
            except Killed:
                release.capsys.readouterr()
        release("status", "--days", 1)
        if killed:
            release("rotate", role)
        words = release("status", "--days", 1).splitlines()
        assert sum(f"{role}: version" in line and "needs 1 of 1 keys, 1 here" in line for line in words) == 1
        release("refresh", "--role", role)
    assert n_writes > 4


def test_a_repository_that_somebody_changed_is_not_signed_anew(release: Release, demo_bundle: Path) -> None:
    release("init")
    release("publish", demo_bundle)
    path = release.repository / "metadata" / "2.plant.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"version": 2', b'"version": 9'))
    assert "the metadata cannot be trusted" in release("refresh", status=1)
    path.write_bytes(content)
    root = release.repository / "metadata" / "1.root.json"
    other = Release(release.folder / "other", release.capsys)
    other.repository.parent.mkdir()
    other("init")
    original = root.read_bytes()
    root.write_bytes((other.repository / "metadata" / "1.root.json").read_bytes())
    assert "is not the root of these keys" in release("refresh", status=1)
    root.write_bytes(original)
    for index in (release.repository / "targets" / "plant").glob("*.releases.json"):
        index.write_text("{}")
    assert "plant cannot be read" in release("status", status=1)
    assert "is not the signed file" in release("publish", demo_bundle, status=1)


def test_releases_that_a_thief_made_unreadable_are_replaced_by_none(release: Release, demo_bundle: Path) -> None:
    release("init", "--group", "hall-1", "--group", "hall-2")
    for n in range(6):
        release("publish", demo_bundle, "--group", "hall-2", "--name", f"spring-{n}")
    assert "spring-0 of" not in release("status") and "spring-0 of" in release("status", "--all")
    with open_repository(release.repository, Keys([release.folder / "plant-keys"])) as repository:
        repository.add_target("hall-1", index_path("hall-1"), b'{"schema": 1, "group": "hall-1", "releases": [1]}')
        repository.save("hall-1")
        repository.commit()
    assert release("status", status=1).endswith("hall-1 cannot be read")
    error = release("publish", demo_bundle, "--group", "hall-1", status=1)
    assert error.endswith(f"to begin with none: train release rotate {release.repository} hall-1 --empty")
    assert "--empty needs a group (hall-1, hall-2), got targets" in release("rotate", "targets", "--empty", status=2)
    release("rotate", "hall-1", "--empty")
    assert "hall-1: no releases" in release("status")
    release("publish", demo_bundle, "--group", "hall-1")
    assert [one.name for one in release.index("hall-1").releases] == ["r0001"]


def test_one_command_waits_for_another_and_status_needs_no_lock(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release("init")
    held = lock(release.repository / ".lock")
    monkeypatch.setattr("train.release.repository.LOCK_WAIT_S", 0.0)
    assert "another train release has been running for 0 s" in release("refresh", status=1)
    release("status")
    monkeypatch.setattr("train.release.repository.LOCK_WAIT_S", 60.0)
    threading.Timer(0.2, os.close, [held]).start()
    assert release("refresh").startswith("snapshot: expires on ")


def test_a_web_server_can_read_all_files_whatever_the_umask_is(release: Release, demo_bundle: Path) -> None:
    before = os.umask(0o077)
    try:
        release("init")
        release("publish", demo_bundle)
    finally:
        os.umask(before)
    paths = [release.repository, *release.repository.rglob("*")]
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths if path.name != ".lock"}
    assert modes == {(True, 0o755), (False, 0o644)}


@pytest.mark.waits
def test_a_release_that_is_killed_is_made_again(release: Release, demo_bundle: Path) -> None:
    """At any time: the repository stays valid, and the next one completes."""
    release("init")
    command = [sys.executable, "-m", "train.cli.main", "release", "publish", str(release.repository), str(demo_bundle)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for n in range(60 if LONG else 6):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(0.55 + 0.05 * (n % 8))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        release("status")
    release("publish", demo_bundle, "--name", "last")
    assert release.index().releases[-1].name == "last"


def test_without_the_extra_one_line_says_what_to_install(release: Release) -> None:
    code = """
import sys
sys.modules["tuf"] = None
from train.cli.main import main
sys.exit(main(["release", "status", "plant"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=release.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().endswith("pip install 'stethos[release]'")
