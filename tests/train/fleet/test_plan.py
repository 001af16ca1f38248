"""The plan: machines from patterns, names, defaults, and one line for each mistake."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.errors import ConfigError
from tests.conftest import ROOT
from train.cli.main import main as train
from train.fleet.jobs import Job
from train.fleet.plan import load_plan


def written(folder: Path, content: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def jobs(folder: Path, *machines: dict[str, Any], **defaults: Any) -> list[Job]:
    return load_plan(written(folder, {**defaults, "machines": list(machines)}))[0]


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    for name in ("Hall1/Fan-1", "Hall1/Fan-2", "Hall2/Fan-1", "Hall2/.hidden", "spare/pump_7/sound", "spare/pump_8"):
        (tmp_path / "plant" / name).mkdir(parents=True)
    (tmp_path / "plant" / "Hall1" / "notes.txt").write_text("no folder")
    return tmp_path


def test_a_plan_of_one_line_names_every_machine(plant: Path) -> None:
    found = load_plan(written(plant, 'machines: [{recordings: "plant/{hall}/{machine}"}]'))[0]
    assert [job.machine for job in found][:3] == ["hall1-fan-1", "hall1-fan-2", "hall2-fan-1"]
    assert found[0].recordings == f"{plant}/plant/Hall1/Fan-1"
    assert (found[0].recipe_name, found[0].seed, found[0].memory_mb, found[0].group) == ("default", 0, 4000, "")


def test_placeholders_match_within_a_component_and_fill_names_and_groups(plant: Path) -> None:
    found = jobs(plant, {"recordings": "plant/Hall{n}/{machine}/", "name": "h{n}_{machine}", "group": "hall {n}"})
    assert [(job.machine, job.group) for job in found] == [("h1_fan-1", "hall 1"), ("h1_fan-2", "hall 1"), ("h2_fan-1", "hall 2")]


def test_only_folders_that_exist_below_a_placeholder_count(plant: Path) -> None:
    assert [job.machine for job in jobs(plant, {"recordings": "plant/spare/{machine}/sound"})] == ["pump_7"]


def test_names_of_folders_become_names_of_machines(plant: Path) -> None:
    for name in ("Lüfter 4 (old)", "#7", "notes"):
        (plant / "odd" / name).mkdir(parents=True)
    found = jobs(plant, {"recordings": "odd/{m}", "name": "hall-1-{m}"}, exclude=["*-notes"])
    assert [job.machine for job in found] == ["hall-1-7", "hall-1-lufter-4-old"]


def test_braces_in_the_plans_own_path_are_no_placeholders(tmp_path: Path) -> None:
    for name in ("{x}/fan", "other/fan"):
        (tmp_path / name).mkdir(parents=True)
    (one,) = jobs(tmp_path / "{x}", {"recordings": "{m}"})
    assert (one.machine, one.recordings) == ("fan", f"{tmp_path}/{{x}}/fan")


def test_a_file_url_is_a_path(plant: Path) -> None:
    found = jobs(plant, {"recordings": f"file://{plant}/plant/Hall1/{{m}}"})
    assert [job.recordings for job in found] == [f"{plant}/plant/Hall1/Fan-1", f"{plant}/plant/Hall1/Fan-2"]


def test_a_placeholder_that_occurs_twice_matches_the_same_text(plant: Path) -> None:
    (plant / "same" / "a" / "a").mkdir(parents=True)
    (plant / "same" / "a" / "b").mkdir()
    assert [job.recordings for job in jobs(plant, {"recordings": "same/{m}/{m}"})] == [f"{plant}/same/a/a"]


def test_a_machines_own_keys_come_before_the_plans(plant: Path) -> None:
    one, other = jobs(
        plant,
        {"recordings": "plant/Hall1/Fan-1", "seed": 7, "memory_mb": 500},
        {"recordings": "plant/Hall1/Fan-2", "recipe": "mimii-mel"},
        seed=3,
        layout="plain",
        recipe="wide",
    )
    assert (one.recipe_name, one.seed, one.memory_mb, one.layout) == ("wide", 7, 500, "plain")
    assert (other.recipe_name, other.seed, other.memory_mb) == ("mimii-mel", 3, 4000)


def test_an_unset_seed_is_the_recipes(plant: Path) -> None:
    (one,) = jobs(plant, {"recordings": "plant/Hall1/Fan-1", "recipe": "mimii-mel"})
    assert one.seed == 42


def test_the_key_depends_on_everything_that_determines_the_bundle_and_nothing_else(plant: Path) -> None:
    (one,) = jobs(plant, {"recordings": "plant/Hall1/Fan-1"})
    key = one.key("a" * 64, {"numpy": "2"})
    other = one.model_copy(update={"group": "x", "memory_mb": 1, "timeout_s": 1, "recordings": "elsewhere"})
    assert other.key("a" * 64, {"numpy": "2"}) == key
    for changed in (
        {"layout": "plain"},
        {"recipe_name": "other"},
        {"seed": 1},
        {"channel": 2},
        {"machine": "b"},
        {"recipe": {**one.recipe, "gain_db": 1.0}},
    ):
        assert one.model_copy(update=changed).key("a" * 64, {"numpy": "2"}) != key
    assert one.key("b" * 64, {"numpy": "2"}) != key != one.key("a" * 64, {"numpy": "3"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("machines: []", "machines must"),
        ("machines: plant", "machines must be"),
        (
            "machines: [{recording: plant/Hall1/Fan-1}]",
            "machines.0.recording is not a setting, did you mean recordings?",
        ),
        ("machines: [{recordings: plant/Hall1/Fan-1}]\nworkers: 3", "workers is not a setting, must be one of recipe, layout"),
        (
            "machines: [{recordings: plant/Hall1/Fan-1}]\nstorage: {secret: x}",
            "storage.secret is not a setting, must be one of endp",
        ),
        ("machines: [{recordings: plant/Hall1/Fan-1}]\nexclude: ['fan*']", "exclude leaves no machine"),
        (
            "machines: [{recordings: plant/Hall1/Fan-1}, {recordings: plant/Hall1/Fan-1, name: b}]",
            "'b' and 'fan-1' have the same",
        ),
        ("machines: [{recordings: 'plant/{hall}/{nothing}/at/all'}]", "/at/all: nothing matches at"),
        ("machines: [{recordings: 'plnt/{hall}'}]", "/plnt"),
        ("machines: [{recordings: 'plant/{Hall}'}]", "placeholder must be a name of a-z, 0-9 and _, got {Hall}"),
        ("machines: [{recordings: 'plant/{hall'}]", "machines.0.recordings: braces must enclose a placeholder"),
        ("machines: [{recordings: 'plant/{hall}/{m}', name: '{m}'}]", "must have different names, got 'fan-1' for"),
        (
            "machines: [{recordings: 'plant/{hall}/{m}', name: '{x}'}]",
            "are those of recordings ({hall}, {m}), got {x}",
        ),
        ("machines: [{recordings: plant/Hall1/Fan-1, name: 'ä'}]", "consist of at most 100 of a-z, 0-9, _ and -, got 'ä'"),
        ("machines: [{recordings: plant/Hall1/Fan-1, recipe: nope}]", "machines.0.recipe: recipe must be one of conv"),
        ("machines: [{recordings: plant/Hall1/Fan-1, layout: nope}]", "layout must be one of mimii"),
        ("machines: [{recordings: plant/Hall1/Fan-1, seed: -1}]", "machines.0.seed must be"),
        ("machines: [{recordings: 'nope://plant/{m}'}]", "nope://plant: cannot be opened: Protocol not known: nope"),
        ("machines: !!python/object:os.system {}", "tags are not supported"),
    ],
)
def test_a_mistake_is_one_line(content: str, message: str, plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(plant, content)
    with pytest.raises(ConfigError, match=r"plan\.yaml: ") as caught:
        load_plan(path)
    assert message in str(caught.value)
    assert train(["fleet", str(path), "--out", str(plant / "out")]) == 78
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not (plant / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "localhost:8786"], "--scheduler must be tcp://HOST:PORT or tls://HOST:PORT, got 'localhost:8786'"),
        (["--scheduler", "tcp://nowhere.invalid:8786"], "--scheduler: tcp://nowhere.invalid:8786 cannot be resolved: "),
        (["--scheduler", "tcp://localhost"], "--scheduler: tcp://localhost cannot be resolved: invalid literal"),
        (["--scheduler", "tls://localhost:8786"], "--tls-ca is required for a scheduler at tls://"),
        (["--tls-key", "x"], "--tls-key requires --scheduler tls://HOST:PORT"),
        (["--scheduler", "tcp://localhost:1", "--workers", "2"], "--workers requires a run on this computer"),
        (["--only", "x*"], "--only must match one of the 1 machine (fan-1), got x*"),
        (["--only", "fan-1", "--only", "x"], "(fan-1), got x"),
        (["--retry-failed"], "names none of these machines"),
        (["--workers", "0"], "must be a whole number from 1, got '0'"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    options: list[str], message: str, plant: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(plant, "machines: [{recordings: plant/Hall1/Fan-1}]")
    try:
        status = train(["fleet", str(path), "--out", str(plant / "out"), *options])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_folder_whose_name_is_not_utf_8_is_named(plant: Path) -> None:
    (plant / "odd" / "fan\udcff").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"has a folder whose name is not UTF-8: 'fan\\udcff'"):
        jobs(plant, {"recordings": "odd/{machine}", "name": "fan"})


def test_a_missing_extra_is_one_line(plant: Path) -> None:
    path = written(plant, "machines: [{recordings: plant/Hall1/Fan-1}]")
    code = "import sys; sys.modules['dask'] = None; from train.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "fleet", str(path), "--out", str(plant / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    message = f"train: error: dask is not installed for {sys.executable}: pip install 'stethos[train,fleet]'\n"
    assert (done.returncode, done.stderr) == (1, message)
