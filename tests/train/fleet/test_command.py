"""`train fleet` on this computer: what it writes, what it keeps, and what it does again."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from monitor.bundle import load_bundle
from tests.conftest import need
from tests.train.fleet.plant import Finished, fleet, recordings, tiny_recipe, write

PLAN = """\
recipe: tiny.yaml
machines:
  - {recordings: "plant/{machine}", group: hall 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plant of a fan with a fault, a pump, and a folder that contains no sound."""
    folder = tmp_path_factory.mktemp("fleet")
    write(folder / "plant" / "Fan", recordings(0, seconds=70.0, n=5, fault="bearing"))
    write(folder / "plant" / "Pump", recordings(1, seconds=56.0))
    write(folder / "plant" / "empty", {"notes.txt": b"nothing yet"})
    tiny_recipe(folder / "tiny.yaml")
    (folder / "plan.yaml").write_text(PLAN)
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Finished:
    return fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "2")


def test_each_step_is_one_small_line_of_json(first: Finished) -> None:
    assert first.status == 1
    assert first.of("fan") == {"inspect": "done", "fit": "done", "evaluate": "done", "rescore": "done"}
    assert first.of("pump") == {"inspect": "done", "fit": "done", "evaluate": "skipped", "rescore": "done"}
    assert first.of("empty") == {"inspect": "failed", "fit": "skipped", "evaluate": "skipped", "rescore": "skipped"}
    assert max(len(json.dumps(line)) for line in first.lines) < 2000
    fit = next(line for line in first.lines if line["machine"] == "fan" and line["step"] == "fit")
    assert fit["cpu_s"] > 0.0
    assert 300.0 < fit["peak_mb"] < 4000.0


def test_a_failure_is_named_on_stderr_and_in_the_file(first: Finished, folder: Path) -> None:
    assert first.stderr.splitlines() == [
        f"wrote {folder}/out/fleet.html: 3 machines; 3 machines need attention",
        f"train: error: 1 machine failed: empty; see {folder}/out/failures.jsonl",
    ]
    (line,) = (folder / "out" / "failures.jsonl").read_text().splitlines()
    assert "contains no sound files" in json.loads(line)["error"]


def test_bundle_report_and_scores_are_complete(first: Finished, folder: Path) -> None:
    out = folder / "out"
    key = json.loads((out / "bundles/fan/latest.json").read_text())["key"]
    assert load_bundle(out / "bundles" / "fan" / key).manifest.name == "fan"
    assert f"bundles/fan/{key}" in (out / "reports" / "fan" / key / "index.html").read_text()
    table = pq.read_table(out / "scores/fan/2026-11-02.parquet").to_pydict()
    assert list(table) == ["time", "recording", "end_s", "score", "ratio", "state"]
    assert table["recording"][0] == "normal/2026-11-02T10-03-00.flac"
    assert f"{table['time'][0]:%H:%M}" == "10:03"
    assert set(table["state"]) <= {"starting", "normal", "anomaly"}
    assert any(score is not None for score in table["score"])


def test_the_summary_has_what_the_page_shows(first: Finished, folder: Path) -> None:
    rows = {row["machine"]: row for row in json.loads((folder / "out/fleet.json").read_text())["machines"]}
    assert [row["status"] for row in rows.values()] == ["failed", "complete", "complete"]
    fan = rows["fan"]
    assert (fan["found"], fan["missed"], fan["auc"]) == (1, 0, 1.0)
    assert (fan["nearest"], rows["pump"]["nearest"]) == ("pump", "fan")
    assert fan["nearest_db"] == rows["pump"]["nearest_db"] > 1.0
    assert fan["hours"] == pytest.approx(45 / 3600, rel=0.5)
    assert any("too little sound" in need for need in fan["needs"])


def test_the_page_sorts_and_filters_without_a_network(first: Finished, folder: Path, tmp_path: Path) -> None:
    browser, tool = shutil.which("chromium"), shutil.which("chromedriver")
    need(browser is not None and tool is not None, "chromium and chromedriver")
    options = ChromeOptions()
    options.binary_location = str(browser)
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(option)
    driver = Chrome(options=options, service=ChromeService(str(tool)))
    try:
        driver.get((folder / "out" / "fleet.html").as_uri())

        def names() -> list[str]:
            rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
            return [row.find_element(By.CSS_SELECTOR, "td").text for row in rows if row.is_displayed()]

        assert names()[0] == "empty"
        assert driver.find_element(By.TAG_NAME, "h1").text == "▲ 3 of 3 machines need attention"
        driver.find_element(By.CSS_SELECTOR, "button[data-key=machine]").click()
        assert names() == ["empty", "fan", "pump"]
        driver.find_element(By.CSS_SELECTOR, "button[data-key=machine]").click()
        assert names() == ["pump", "fan", "empty"]
        driver.find_element(By.CSS_SELECTOR, "button[data-key=hours]").click()
        assert names()[-1] == "empty"  # it has no value
        driver.find_element(By.ID, "filter").send_keys("hall sound files")
        assert names() == ["empty"]
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
    finally:
        driver.quit()


def test_a_step_that_takes_too_long_is_ended(folder: Path, tmp_path: Path) -> None:
    plan = folder / "hasty.yaml"
    plan.write_text("recipe: tiny.yaml\nmachines: [{recordings: plant/Pump, timeout_s: 1}]\n")
    done = fleet(folder, plan, "--out", tmp_path / "out", "--workers", "1")
    (failed,) = [line for line in done.lines if line["status"] == "failed"]
    assert (done.status, failed["error"]) == (1, "took more than 1 s: set timeout_s in the plan")
    assert 1.0 <= failed["seconds"] < 30.0


def test_only_the_failed_machines_can_be_tried_again(first: Finished, folder: Path) -> None:
    done = fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "1", "--retry-failed")
    assert done.status == 1
    assert {line["machine"] for line in done.lines} == {"empty"}


def test_what_is_complete_is_kept_and_what_was_mended_is_done(first: Finished, folder: Path) -> None:
    written = [path for name in ("bundles", "reports", "scores") for path in (folder / "out" / name).rglob("*.*")]
    before = {path: path.stat().st_mtime_ns for path in written}
    write(folder / "plant" / "empty", recordings(2, seconds=56.0))
    done = fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "1")
    assert (done.status, done.stderr.count("\n")) == (0, 1)
    assert done.of("fan") == {"inspect": "done", "fit": "kept", "evaluate": "kept", "rescore": "kept"}
    assert done.of("empty")["fit"] == "done"
    assert {path: path.stat().st_mtime_ns for path in written} == before
    assert (folder / "out" / "failures.jsonl").read_bytes() == b""
    rows = json.loads((folder / "out/fleet.json").read_text())["machines"]
    assert {row["machine"]: row["status"] for row in rows} == dict.fromkeys(("empty", "fan", "pump"), "complete")


def test_a_machine_whose_recordings_changed_is_not_called_complete(first: Finished, folder: Path) -> None:
    write(folder / "plant" / "Pump", {"normal/2026-11-03T10-00-00.flac": b"fLaC"})
    done = fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "1", "--only", "pump")
    rows = {row["machine"]: row for row in json.loads((folder / "out/fleet.json").read_text())["machines"]}
    (folder / "plant/Pump/normal/2026-11-03T10-00-00.flac").unlink()
    assert done.of("pump")["fit"] == rows["pump"]["status"] == "failed"
    assert "plan or recordings have changed since it was trained" in rows["pump"]["needs"]


def test_a_damaged_bundle_is_named_with_its_folder(first: Finished, folder: Path) -> None:
    latest = json.loads((folder / "out" / "bundles" / "pump" / "latest.json").read_text())
    bundle = folder / "out" / latest["bundle"]
    whole = (bundle / "model.tflite").read_bytes()
    (bundle / "model.tflite").write_bytes(b"")
    (folder / "out" / "scores" / "pump" / "complete.json").unlink()
    done = fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "1", "--only", "pump")
    (bundle / "model.tflite").write_bytes(whole)
    (failed,) = [line for line in done.lines if line["status"] == "failed"]
    assert failed["step"] == "rescore"
    assert failed["error"].startswith(f"{bundle}: the bundle is damaged: ")
    assert failed["error"].endswith("; delete this folder and run again")


def test_failures_of_machines_that_left_the_plan_are_forgotten(first: Finished, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").write_text('{"machine": "gone", "step": "fit", "error": "x"}\n')
    plan = folder / "missing.yaml"
    plan.write_text("machines: [{recordings: nowhere, name: fan}]\n")
    assert fleet(folder, plan, "--out", tmp_path, "--workers", "1").status == 1
    assert [json.loads(line)["machine"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()] == ["fan"]


def test_a_damaged_result_is_named_and_not_followed(first: Finished, folder: Path) -> None:
    latest = folder / "out" / "bundles" / "pump" / "latest.json"
    content = json.loads(latest.read_text())
    complete = latest.parent / content["key"] / "complete.json"
    whole = complete.read_text()
    complete.write_text("{}")
    latest.write_text(json.dumps({**content, "key": "../../../x"}))
    done = fleet(folder, folder / "plan.yaml", "--out", folder / "out", "--workers", "1", "--only", "pump")
    complete.write_text(whole)
    assert done.status == 1
    (failed,) = [line for line in done.lines if line["status"] == "failed"]
    assert failed["error"].startswith(f"{complete}: machine: Field required")
    assert failed["error"].endswith(f"delete {complete.parent} and run again")
    rows = {row["machine"]: row for row in json.loads((folder / "out/fleet.json").read_text())["machines"]}
    assert rows["pump"]["status"] == "failed"
    assert any("latest.json: key: String should match pattern" in need for need in rows["pump"]["needs"])
