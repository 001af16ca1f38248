"""Every layout is recognised, and labels are read from names."""

from pathlib import Path

import pytest
import soundfile

from monitor.errors import SourceError, UsageError
from tests.signals import noise
from tests.train.datasets.trees import DCASE2020, DCASE2021, MIMII, PLAIN, TOYADMOS, make
from train.cli.main import main as train
from train.datasets import (
    LAYOUTS,
    Clip,
    Dataset,
    read_dataset,
)


def by_name(dataset: Dataset) -> dict[str, Clip]:
    return {dataset.relative(clip): clip for clip in dataset.clips}


@pytest.mark.parametrize(
    ("layout", "names"),
    [("mimii", MIMII), ("toyadmos", TOYADMOS), ("dcase2020", DCASE2020), ("dcase2021", DCASE2021), ("plain", PLAIN)],
)
def test_every_layout_is_recognised(layout: str, names: list[str], tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", names))
    assert dataset.layout == layout
    assert [dataset.relative(clip) for clip in dataset.clips] == sorted(names)
    assert read_dataset(tmp_path / "set", layout=layout) == dataset


def test_mimii_says_machine_id_label_and_signal_to_noise_ratio(tmp_path: Path) -> None:
    clips = by_name(read_dataset(make(tmp_path, MIMII)))
    clip = clips["-6_dB_fan/fan/id_02/abnormal/00000001.wav"]
    assert (clip.machine, clip.id, clip.label, clip.part) == ("fan", "id_02", "anomaly", None)
    assert clip.attributes == {"snr": "-6_dB"}
    # MIMII mixes one recording with noise at three levels.
    assert clip.recording == clips["0_dB_fan/fan/id_02/abnormal/00000001.wav"].recording
    assert clip.recording != clips["-6_dB_fan/fan/id_00/abnormal/00000001.wav"].recording
    assert clip.recording != clips["-6_dB_fan/fan/id_02/normal/00000001.wav"].recording


@pytest.mark.parametrize("inside", ["0_dB_fan", "0_dB_fan/fan", "0_dB_fan/fan/id_00"])
def test_a_root_inside_mimii_says_the_same(inside: str, tmp_path: Path) -> None:
    whole = {clip.path: clip for clip in read_dataset(make(tmp_path, MIMII)).clips}
    dataset = read_dataset(tmp_path / inside)
    assert dataset.layout == "mimii"
    assert len(dataset.clips) >= 4
    assert all(whole[clip.path] == clip for clip in dataset.clips)


def test_mimii_without_the_folder_of_the_ratio(tmp_path: Path) -> None:
    (clip,) = read_dataset(make(tmp_path, ["pump/id_04/normal/00000000.wav"])).clips
    assert (clip.machine, clip.id, clip.attributes) == ("pump", "id_04", {})


def test_toyadmos_channels_are_files_of_one_recording(tmp_path: Path) -> None:
    clips = by_name(read_dataset(make(tmp_path, TOYADMOS)))
    one, two = (
        clips[f"ToyCar/case2/ch{ch}/AnomalousSound_IND/1210010001_ToyCar_case2_ab01_IND_ch{ch}_0002.wav"] for ch in (1, 2)
    )
    assert (one.machine, one.id, one.label, one.part) == ("ToyCar", "case2", "anomaly", None)
    assert one.attributes == {"condition": "ab01", "run": "IND", "channel": "1"}
    assert (one.file_channel, two.file_channel) == (1, 2)
    assert one.recording == two.recording
    assert len({clip.recording for clip in clips.values()}) == 4


def test_toyadmos_without_channel_folders_and_with_environmental_noise(tmp_path: Path) -> None:
    names = [
        "case1/NormalSound_IND/1100010001_ToyCar_case1_normal_IND_ch1_0001.wav",
        "EnvironmentalNoise_CNT/noise_ch1_0001.wav",
    ]
    dataset = read_dataset(make(tmp_path, names))
    assert (dataset.layout, len(dataset.clips)) == ("toyadmos", 1)
    assert [path.name for path in dataset.skipped] == ["noise_ch1_0001.wav"]


@pytest.mark.parametrize("inside", [".", "ToyCar", "ToyCar/train"])
def test_dcase2020_says_part_label_and_id(inside: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, DCASE2020) / inside)
    found = [(clip.machine, clip.part, clip.label, clip.id) for clip in dataset.clips]
    assert ("ToyCar", "train", "normal", "id_02") in found
    if inside != "ToyCar/train":
        assert ("ToyCar", "test", "anomaly", "id_01") in found
        assert len({clip.recording for clip in dataset.clips}) == 4


def test_dcase2021_says_section_domain_part_and_attributes(tmp_path: Path) -> None:
    clips = by_name(read_dataset(make(tmp_path, [*DCASE2021, "bearing/supplement/section_00_noise_0000.wav"])))
    assert [(c.machine, c.section, c.domain, c.part, c.label, dict(c.attributes)) for c in map(clips.__getitem__, DCASE2021)] == [
        ("bearing", "00", "source", "train", "normal", {"vel": "6", "loc": "A"}),
        ("bearing", "00", "target", "train", "normal", {"vel": "0.5", "loc": "B"}),
        ("bearing", "00", "source", "test", "normal", {}),
        ("bearing", "01", "target", "test", "anomaly", {}),
    ]


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("m-n_W", {"m-n": "W"}),
        ("strength_1_ambient", {"attributes": "strength_1_ambient"}),
        ("0_g_25_mm_2000_mV_none", {"attributes": "0_g_25_mm_2000_mV_none"}),
    ],
)
def test_attributes_are_names_and_values_or_else_one_text(text: str, attributes: dict[str, str], tmp_path: Path) -> None:
    (clip,) = read_dataset(make(tmp_path, [f"fan/train/section_00_source_train_normal_0000_{text}.wav"])).clips
    assert clip.attributes == attributes


@pytest.mark.parametrize("anomalous", ["anomaly", "abnormal", None])
def test_a_plain_folder_needs_only_normal_sound(anomalous: str | None, tmp_path: Path) -> None:
    names = ["normal/a.wav", "normal/b.flac", *([f"{anomalous}/a.wav"] if anomalous else [])]
    dataset = read_dataset(make(tmp_path, names))
    assert dataset.layout == "plain"
    assert len(dataset.labelled("normal")) == 2
    assert len(dataset.labelled("anomaly")) == (1 if anomalous else 0)
    assert len({clip.recording for clip in dataset.clips}) == len(names)


def test_clips_cut_from_one_session_are_one_recording(tmp_path: Path) -> None:
    names = ["20261121T100000Z-000", "20261121T100000Z-001", "20261121T100000Z-1000", "20261121T110000Z-000", "2026-11-21"]
    clips = by_name(read_dataset(make(tmp_path, [f"normal/{name}.flac" for name in names])))
    assert [clips[f"normal/{name}.flac"].recording for name in names] == [
        *["normal/20261121T100000Z"] * 3,
        "normal/20261121T110000Z",
        "normal/2026-11-21",
    ]


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/a.wav", "normal/._a.wav", ".trash/x.wav", "__MACOSX/normal/a.wav"]))
    assert list(by_name(dataset)) == ["normal/a.wav"]


def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "base", ["normal/a.wav", "normal/deep/b.wav", "anomaly/c.wav"])
    (tmp_path / "mine/normal").mkdir(parents=True)
    (tmp_path / "mine/normal/base").symlink_to("../../base/normal")
    (tmp_path / "mine/anomaly").symlink_to(tmp_path / "base/anomaly")
    for dataset in (read_dataset(tmp_path / "mine"), read_dataset(tmp_path / "mine", layout="plain")):
        assert list(by_name(dataset)) == ["anomaly/c.wav", "normal/base/a.wav", "normal/base/deep/b.wav"]
        assert dataset.skipped == {}


def test_a_folder_counts_once_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    root = make(tmp_path / "set", ["normal/a.wav", "normal/deep/b.wav"])
    for link, target in {"again": "normal", "normal/up": "../..", "normal/deep/round": ".."}.items():
        (root / link).symlink_to(target)
    dataset = read_dataset(root)
    assert list(by_name(dataset)) == ["normal/a.wav", "normal/deep/b.wav"]
    assert {path.relative_to(root).as_posix(): why for path, why in dataset.skipped.items()} == {
        "again": "the same folder as normal",
        "normal/up": "link to a parent folder",
        "normal/deep/round": "link to a parent folder",
    }


def test_links_that_lead_nowhere_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "set", ["normal/a.wav"])
    (root / "normal/annexed.wav").symlink_to("../.git/annex/objects/x")
    (root / "anomaly").symlink_to("../gone")
    (root / "normal/self.wav").symlink_to("self.wav")
    dataset = read_dataset(root)
    assert list(by_name(dataset)) == ["normal/a.wav"]
    assert {path.name for path in dataset.skipped} == {"annexed.wav", "anomaly", "self.wav"}
    assert set(dataset.skipped.values()) == {"broken link"}
    told = capsys.readouterr().err
    assert told == f"train: warning: {root}: skipped 3: anomaly (broken link), …; see train inspect\n"
    (root / "normal/a.wav").unlink()
    with pytest.raises(SourceError, match=r"contains no sound files .*; skipped 3: anomaly \(broken link\), …$"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("names", "layout", "message"),
    [
        ([], None, "no such folder"),
        (["readme.txt.wav/x.txt"], None, "contains no sound files (WAV, FLAC, Ogg, MP3, …)"),
        (["fan_anomaly_1.wav", "fan_1.wav"], None, "none of its 2 sound files has a known label (fan_1.wav, …)"),
        ([*DCASE2020, PLAIN[0]], None, "4 files fit the layout dcase2020, 1 do not (normal/a.flac, …)"),
        (["normal/a.wav", "other/a.wav"], None, "1 files fit the layout plain, 1 do not (other/a.wav, …)"),
        (PLAIN, "mimii", "none of its 3 sound files has a known label (abnormal/a.wav, …)"),
        (PLAIN, "zip", "--layout must be one of mimii, toyadmos, dcase2020, dcase2021, plain, got 'zip'"),
    ],
)
def test_an_unknown_layout_is_an_error_with_an_example(
    names: list[str], layout: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    options = [] if layout is None else ["--layout", layout]
    assert train(["inspect", str(tmp_path / "set"), *options]) == (2 if layout == "zip" else 1)
    first, *hints = capsys.readouterr().err.splitlines()
    assert message in first
    if not names or layout == "zip":
        assert hints == []
    elif layout is None:
        assert str(tmp_path / "set/normal/monday.wav") in hints[0]
        assert all(name in hints[1] for name in LAYOUTS)
    else:
        assert hints == [f"the layout mimii expects names such as {tmp_path / 'set/fan/id_00/normal/00000000.wav'}"]


PUBLISHED = {
    "dcase2020": [
        "fan/train/normal_id_00_00000000.wav",
        "fan/test/normal_id_00_00000000.wav",
        "fan/test/anomaly_id_00_00000000.wav",
        "fan/test/id_01_00000000.wav",  # of the evaluation set
    ],
    "dcase2021": [
        "fan/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
        "fan/source_test/section_00_source_test_normal_0000_strength_1_ambient.wav",
        "fan/target_test/section_00_target_test_anomaly_0000_strength_1_ambient.wav",
        "fan/source_test/section_03_source_test_0000.wav",
    ],
    "dcase2022 and mimii dg": [
        "fan/train/section_00_source_train_normal_0000_m-n_W.wav",
        "fan/test/section_00_target_test_anomaly_0000_m-n_X.wav",
        "fan/test/section_03_test_0000.wav",
    ],
    "dcase2023": [
        "data/dcase2023t2/eval_data/raw/Vacuum/train/section_00_source_train_normal_0000_.wav",
        "data/dcase2023t2/eval_data/raw/Vacuum/test/section_00_0000.wav",
        "data/dcase2023t2/eval_data/raw/Vacuum/test_rename/section_00_target_test_anomaly_0000_.wav",
    ],
    "dcase2025": [
        "bearing/train/section_00_source_train_normal_0000_noAttribute.wav",
        "bearing/test/section_00_target_test_anomaly_0000_noAttribute.wav",
        "bearing/supplemental/section_00_machine_source_0000_noAttribute.wav",
        "bearing/supplemental/section_00_noise_supplemental_normal_0000.wav",
    ],
    "mimii due": [
        "gearbox/train/section_05_target_train_normal_0002_id_00.wav",
        "gearbox/source_test/section_05_source_test_anomaly_0002_id_00.wav",
    ],
    "toyadmos": [
        "ToyConveyor/case1/NormalSound_CNT/1100000001_ToyConveyor_case1_normal_CNT_ch1_0001.wav",
        "ToyConveyor/case1/AnomalousSound_IND/ch1/1110010001_ToyConveyor_case1_ab01_IND_ch1_0001.wav",
        "ToyConveyor/EnvironmentalNoise_CNT/ch1/9000_EnvironmentalNoise_CNT_ch1_0001.wav",
    ],
    "toyadmos2, mixed": [
        "ToyCar/train/section_00_source_train_normal_0001_A1_spd1.wav",
        "ToyCar/target_test/section_00_target_test_anomaly_0001_A1_spd1.wav",
    ],
    "one folder, the machine in front": ["fan_section_00_source_train_normal_0000.wav"],
    "no folder of a part": ["fan/normal_id_00_00000000.wav", "fan/anomaly_id_00_00000001.wav"],
    "published names in folders of labels": ["normal/normal_id_00_00000000.wav", "anomaly/anomaly_id_00_00000000.wav"],
    "upper case": ["Normal/a.wav", "ANOMALY/b.WAV"],
    "good and bad": ["good/a.wav", "bad/b.wav"],
    "parts": ["train/normal/a.wav", "test/normal/b.wav", "test/anomaly/b.wav", "test/unknown/c.wav"],
    "a machine above": ["Fan 3/normal/a.wav", "Fan 3/anomaly/a.wav"],
    "days above": ["2026-11-21/normal/a.wav", "2026-11-22/normal/a.wav"],
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_folders_as_they_are_published_and_as_people_name_them(case: str, tmp_path: Path) -> None:
    names = PUBLISHED[case]
    dataset = read_dataset(make(tmp_path / "set", names))
    found = by_name(dataset)
    assert {name: clip.label for name, clip in found.items()} == {
        name: "anomaly" if any(word in name.lower() for word in ("anomal", "bad/")) else "normal"
        for name in names
        if name not in {path.relative_to(dataset.root).as_posix() for path in dataset.skipped}
    }
    assert set(dataset.skipped.values()) <= {"no label", "no machine", "no machine in its usual noise"}
    assert {clip.part for name, clip in found.items() if "train" in name} <= {"train"}
    assert {clip.part for name, clip in found.items() if "test" in name} <= {"test"}
    assert len({clip.machine for clip in found.values()}) == 1
    assert len({clip.recording for clip in found.values()}) == len(found)


def test_recordings_without_any_folder_of_a_label_count_as_normal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = read_dataset(make(tmp_path / "set", ["a.wav", "monday/b-001.wav", "monday/b-002.wav"]))
    assert [(clip.label, clip.recording) for clip in dataset.clips] == [
        ("normal", "normal/a"),
        ("normal", "normal/monday/b"),
        ("normal", "normal/monday/b"),
    ]
    told = capsys.readouterr().err
    assert told == f"train: {tmp_path / 'set'}: no folder normal/: taking all 3 recordings as normal\n"


@pytest.mark.parametrize(
    "names",
    [
        ["fan/train/normal_id_00_00000000.wav", "pump/train/normal_id_00_00000000.wav"],
        ["fan_normal_id_00_00000000.wav", "pump_normal_id_00_00000000.wav"],
        ["fan/id_00/normal/00000000.wav", "pump/id_00/normal/00000000.wav"],
        ["fan/normal/a.wav", "pump/normal/a.wav"],
        ["fan/section_00_source_train_normal_0000.wav", "pump/section_00_source_train_normal_0000.wav"],
    ],
)
def test_of_several_machines_one_must_be_chosen(names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "set", names)
    for command in (["inspect", str(root)], ["fit", str(root), "--recipe", "default", "--out", str(tmp_path / "out")]):
        assert train(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "train: error: --machine must be one of fan (1 file), pump (1 file), got none"
    assert [clip.machine for clip in read_dataset(root, machine="pump").clips] == ["pump"]
    with pytest.raises(UsageError, match="got valve"):
        read_dataset(root, machine="valve")


def test_an_individual_machine_may_be_chosen(tmp_path: Path) -> None:
    root = make(tmp_path, MIMII)
    assert {clip.id for clip in read_dataset(root, machine="fan/id_02").clips} == {"id_02"}


def test_the_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    one = read_dataset(make(tmp_path / "one", PLAIN)).sha256()
    assert read_dataset(make(tmp_path / "two", PLAIN)).sha256() == one
    make(tmp_path / "two", ["normal/other.wav"])
    assert read_dataset(tmp_path / "two").sha256() != one
    soundfile.write(tmp_path / "one" / PLAIN[0], noise(99, 100), 16000)
    assert read_dataset(tmp_path / "one").sha256() != one
