"""Data sets: every layout is recognised, and a split never leaks."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import SourceError, UsageError
from tests.signals import noise
from train.cli.main import main as train
from train.datasets import (
    LAYOUTS,
    Clip,
    Dataset,
    Split,
    load_split,
    pieces,
    read_dataset,
    save_split,
    split_dataset,
    split_pieces,
)

MIMII = [
    f"{snr}_dB_fan/fan/id_0{i}/{label}/0000000{n}.wav"
    for snr in ("-6", "0")
    for i in (0, 2)
    for label in ("normal", "abnormal")
    for n in range(2)
]
TOYADMOS = [
    f"ToyCar/case2/ch{ch}/{folder}/12{code}0010001_ToyCar_case2_{condition}_IND_ch{ch}_000{n}.wav"
    for ch in (1, 2)
    for folder, code, condition in (("NormalSound_IND", "0", "normal"), ("AnomalousSound_IND", "1", "ab01"))
    for n in (1, 2)
]
DCASE2020 = [
    "ToyCar/train/normal_id_01_00000000.wav",
    "ToyCar/train/normal_id_02_00000000.wav",
    "ToyCar/test/normal_id_01_00000000.wav",
    "ToyCar/test/anomaly_id_01_00000000.wav",
]
DCASE2021 = [
    "bearing/train/section_00_source_train_normal_0000_vel_6_loc_A.wav",
    "bearing/train/section_00_target_train_normal_0000_vel_0.5_loc_B.wav",
    "bearing/test/section_00_source_test_normal_0000_noAttribute.wav",
    "bearing/target_test/section_01_target_test_anomaly_0007.wav",
]
PLAIN = ["normal/a.flac", "normal/deep/a.wav", "abnormal/a.wav"]


def make(root: Path, names: Iterable[str], *, seconds: float = 0.1) -> Path:
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(seed, round(16000 * seconds)), 16000)
    return root


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
    with pytest.raises(SourceError, match=r"found none; skipped 3: anomaly \(broken link\), …$"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("names", "layout", "message"),
    [
        ([], None, "no such folder"),
        (["readme.txt.wav/x.txt"], None, "found none"),
        (["a.wav", "b/c.wav"], None, "none of its 2 sound files (a.wav, …) fits"),
        ([*DCASE2020, *PLAIN], None, "4 files fit dcase2020, 3 (abnormal/a.wav, …) do not"),
        (["normal/a.wav", "other/a.wav"], None, "1 files fit plain, 1 (other/a.wav, …) do not"),
        (PLAIN, "mimii", "must hold sound files as mimii (<type>/id_00/{normal,abnormal}/00000000.wav); none of its 3"),
        (PLAIN, "zip", "--layout must be one of mimii, toyadmos, dcase2020, dcase2021, plain, got 'zip'"),
    ],
)
def test_what_fits_no_layout_is_named(names: list[str], layout: str | None, message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    with pytest.raises(UsageError if layout == "zip" else SourceError) as error:
        read_dataset(tmp_path / "set", layout=layout)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    if layout is None:
        assert all(name in str(error.value) for name in LAYOUTS)


def test_the_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    one = read_dataset(make(tmp_path / "one", PLAIN)).sha256()
    assert read_dataset(make(tmp_path / "two", PLAIN)).sha256() == one
    make(tmp_path / "two", ["normal/other.wav"])
    assert read_dataset(tmp_path / "two").sha256() != one
    soundfile.write(tmp_path / "one" / PLAIN[0], noise(99, 100), 16000)
    assert read_dataset(tmp_path / "one").sha256() != one


def made(sizes: dict[tuple[str, str], int], *, n_channels: int = 1, anomalies: int = 0, tests: int = 0) -> Dataset:
    """A data set without files: so many recordings of each (machine, id)."""
    clips = [
        Clip(
            path=Path(f"/set/{machine}/{name}/{number}_ch{channel}.wav"),
            label="anomaly" if number < anomalies else "normal",
            recording=f"{machine}/{name}/{number}",
            part=("test" if number < max(anomalies, tests) else "train") if tests else None,
            machine=machine,
            id=name,
            attributes={"channel": str(channel)} if n_channels > 1 else {},
        )
        for (machine, name), size in sizes.items()
        for number in range(size)
        for channel in range(1, n_channels + 1)
    ]
    return Dataset(root=Path("/set"), layout="made", clips=tuple(sorted(clips, key=lambda clip: clip.path)))


DATASETS = st.builds(
    made,
    st.dictionaries(
        st.tuples(st.sampled_from(["fan", "pump"]), st.sampled_from(["id_00", "id_02"])), st.integers(4, 30), min_size=1
    ),
    n_channels=st.integers(1, 3),
    anomalies=st.integers(0, 2),
    tests=st.sampled_from([0, 2]),
)


@given(DATASETS, st.floats(0.05, 0.5), st.integers(0, 99))
def test_no_split_leaks(dataset: Dataset, held_out: float, seed: int) -> None:
    split = split_dataset(dataset, held_out=held_out, seed=seed)
    parts = (split.train, split.held_out, split.test)
    assert sorted(clip.path for part in parts for clip in part) == [clip.path for clip in dataset.clips]
    recordings = [{clip.recording for clip in part} for part in parts]
    assert sum(map(len, recordings)) == len(set().union(*recordings))
    assert {clip.label for clip in (*split.train, *split.held_out)} == {"normal"}
    assert all(clip.part != "test" for clip in (*split.train, *split.held_out))
    assert bool(split.test) == any(clip.label == "anomaly" or clip.part == "test" for clip in dataset.clips)
    assert split == split_dataset(dataset, held_out=held_out, seed=seed)


@given(DATASETS, st.floats(0.05, 0.5), st.integers(0, 99))
def test_every_machine_gives_its_share(dataset: Dataset, held_out: float, seed: int) -> None:
    split = split_dataset(dataset, held_out=held_out, seed=seed)
    held, trained = (
        Counter((c.machine, c.id) for c in {c.recording: c for c in part}.values()) for part in (split.held_out, split.train)
    )
    n_held, n_all = sum(held.values()), sum(held.values()) + sum(trained.values())
    assert n_held == min(n_all - 1, max(1 if n_all < 4 else 2, round(held_out * n_all)))
    for stratum in trained | held:
        exact = n_held * (held[stratum] + trained[stratum]) / n_all
        assert abs(held[stratum] - exact) < 1.0 + 1e-9


def test_another_seed_gives_another_split() -> None:
    dataset = made({("fan", "id_00"): 30})
    splits = [split_dataset(dataset, held_out=0.2, seed=seed) for seed in range(5)]
    assert len({tuple(clip.path for clip in split.held_out) for split in splits}) == 5


def test_the_order_of_clips_and_the_folder_do_not_matter(tmp_path: Path) -> None:
    names = [f"normal/{i}.wav" for i in range(20)]
    one, two = (read_dataset(make(tmp_path / name, names)) for name in ("one", "two"))
    two = Dataset(root=two.root, layout=two.layout, clips=two.clips[::-1])
    held = [[d.relative(c) for c in split_dataset(d, held_out=0.2, seed=3).held_out] for d in (one, two)]
    assert held[0] == held[1]


def test_anomalies_without_a_test_part_get_a_fifth_of_the_normal_recordings_for_company() -> None:
    split = split_dataset(made({("fan", "id_00"): 52}, anomalies=2), held_out=0.2, seed=0)
    assert Counter(clip.label for clip in split.test) == {"normal": 10, "anomaly": 2}
    assert (len(split.train), len(split.held_out)) == (32, 8)


def test_a_test_part_is_taken_as_it_is() -> None:
    dataset = made({("fan", "id_00"): 50}, anomalies=2, tests=10)
    split = split_dataset(dataset, held_out=0.2, seed=0)
    assert split.test == tuple(clip for clip in dataset.clips if clip.part == "test")
    assert (len(split.train), len(split.held_out)) == (32, 8)


def test_an_anomaly_in_the_training_part_is_tested_with() -> None:
    clips = (
        *made({("fan", "id_00"): 9}, tests=2).clips,
        Clip(path=Path("/set/x.wav"), label="anomaly", recording="x", part="train"),
    )
    split = split_dataset(Dataset(root=Path("/set"), layout="made", clips=clips), held_out=0.2, seed=0)
    assert clips[-1] in split.test


def test_two_and_three_recordings_are_enough() -> None:
    two = split_dataset(made({("fan", "id_00"): 2}), held_out=0.9, seed=0)
    assert (len(two.train), len(two.held_out)) == (1, 1)
    three = split_dataset(made({("fan", "id_00"): 4}, anomalies=1), held_out=0.2, seed=0)
    assert (len(three.train), len(three.held_out), len(three.test)) == (1, 1, 2)


def test_by_file_the_channels_of_a_recording_may_stand_on_both_sides(tmp_path: Path) -> None:
    names = [f"NormalSound_IND/1_ToyCar_case1_normal_IND_ch{ch}_{i:04d}.wav" for i in range(10) for ch in (1, 2)]
    dataset = read_dataset(make(tmp_path, names))
    split = split_dataset(dataset, held_out=0.5, seed=0, by="file")
    assert {clip.recording for clip in split.train} & {clip.recording for clip in split.held_out}
    assert sorted(split.train + split.held_out, key=lambda clip: clip.path) == list(dataset.clips)
    whole = split_dataset(dataset, held_out=0.5, seed=0)
    assert not {clip.recording for clip in whole.train} & {clip.recording for clip in whole.held_out}


def test_nothing_normal_cannot_be_split() -> None:
    with pytest.raises(SourceError, match="must hold normal sound to train on, got none"):
        split_dataset(made({("fan", "id_00"): 2}, anomalies=2), held_out=0.2, seed=0)


def test_a_single_recording_is_cut_in_time(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ["normal/all.wav"], seconds=10.0))
    split = split_dataset(dataset, held_out=0.2, seed=0)
    (train,), (held_out,) = split_pieces(split, sample_rate_hz=16000)
    assert (train.start_s, train.stop_s, held_out.start_s, held_out.stop_s) == (0.0, 8.0, 8.0, float("inf"))
    assert train.recording.path == held_out.recording.path == tmp_path / "normal/all.wav"


def test_the_channels_of_a_single_recording_are_all_cut_in_time(tmp_path: Path) -> None:
    names = [f"NormalSound_IND/1_ToyCar_case1_normal_IND_ch{ch}_0001.wav" for ch in (1, 2)]
    split = split_dataset(read_dataset(make(tmp_path, names, seconds=10.0)), held_out=0.2, seed=0)
    train, held_out = split_pieces(split, sample_rate_hz=16000)
    assert [piece.stop_s for piece in train] == [piece.start_s for piece in held_out] == [8.0, 8.0]


def test_the_last_clips_of_a_single_session_are_held_out(tmp_path: Path) -> None:
    names = [f"normal/session-{i:03d}.flac" for i in range(10)]
    normal = split_dataset(read_dataset(make(tmp_path, names)), held_out=0.2, seed=0)
    assert [clip.path.stem[-3:] for clip in normal.held_out] == ["008", "009"]
    assert [clip.path.stem[-3:] for clip in normal.train] == [f"{i:03d}" for i in range(8)]
    make(tmp_path, ["anomaly/x.wav"])
    split = split_dataset(read_dataset(tmp_path), held_out=0.25, seed=0)
    assert [clip.path.stem[-3:] for clip in split.held_out] == ["006", "007"]
    assert [clip.path.name for clip in split.test] == ["x.wav", "session-008.flac", "session-009.flac"]


def test_a_channel_is_a_file_or_a_part_of_one(tmp_path: Path) -> None:
    toys = read_dataset(make(tmp_path / "toys", TOYADMOS))
    found = pieces(toys.clips, sample_rate_hz=16000, channel=2)
    assert len(found) == len(TOYADMOS) // 2
    assert all("_ch2_" in piece.recording.path.name for piece in found)
    with pytest.raises(SourceError, match="channel must be one of 1, 2, got 5"):
        pieces(toys.clips, sample_rate_hz=16000, channel=5)
    stereo = np.stack([noise(0, 1600), noise(1, 1600)], axis=1)
    (tmp_path / "plain/normal").mkdir(parents=True)
    soundfile.write(tmp_path / "plain/normal/a.wav", stereo, 16000, subtype="FLOAT")
    (piece,) = pieces(read_dataset(tmp_path / "plain").clips, sample_rate_hz=16000, channel=2)
    (block,) = piece.recording.blocks()
    assert np.array_equal(block.samples, stereo[:, 1])


def test_a_split_is_saved_and_loaded_again(tmp_path: Path) -> None:
    names = [*(f"normal/ä {i}.wav" for i in range(10)), "anomaly/x.wav"]
    dataset = read_dataset(make(tmp_path / "set", names))
    split = split_dataset(dataset, held_out=0.2, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    lines = {path.name: path.read_text("utf-8").splitlines() for path in (tmp_path / "lists").iterdir()}
    assert sorted(lines) == ["held_out.txt", "test.txt", "train.txt"]
    assert sorted(line for some in lines.values() for line in some) == sorted(names)
    assert load_split(tmp_path / "lists", dataset) == split
    (tmp_path / "set").rename(tmp_path / "moved")
    again = load_split(tmp_path / "lists", read_dataset(tmp_path / "moved"))
    assert [clip.path.name for clip in again.train] == [clip.path.name for clip in split.train]


def test_names_that_are_no_text_or_no_line_are_heard_listed_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [b"l\xfcfter.wav", b"a\nb.wav", b"\r c.wav", b'"q".wav', b"x-001.wav", "\u2028.wav".encode()]
    root = make(tmp_path / "set", [f"normal/{i}.wav" for i in range(len(names))], seconds=12)
    for i, name in enumerate(names):
        (root / f"normal/{i}.wav").rename(root / "normal" / os.fsdecode(name))
    dataset = read_dataset(root)
    assert dataset.layout == "plain"
    assert {os.fsencode(clip.path.name) for clip in dataset.clips} == set(names)
    split = split_dataset(dataset, held_out=0.5, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    assert load_split(tmp_path / "lists", dataset) == split
    assert train(["inspect", str(root)]) == 0
    assert "unreadable  none" in capsys.readouterr().out.splitlines()


def test_an_error_is_one_line_whatever_a_file_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ["a\nb.wav"])
    assert train(["inspect", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert r"none of its 1 sound files (a\nb.wav, …) fits" in line


def test_a_split_in_time_is_saved_and_loaded_again(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", ["normal/all.wav"]))
    split = split_dataset(dataset, held_out=0.2, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    assert (tmp_path / "lists/cut.txt").read_text() == "0.8\n"
    assert load_split(tmp_path / "lists", dataset) == split
    assert split.in_time
    (tmp_path / "lists/cut.txt").write_text("four fifths")
    with pytest.raises(SourceError, match=r"cut\.txt: must contain one number above 0 and below 1"):
        load_split(tmp_path / "lists", dataset)
    (tmp_path / "lists/cut.txt").unlink()
    with pytest.raises(SourceError, match="must be in train or held out, got both"):
        load_split(tmp_path / "lists", dataset)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "normal/0.wav\nnormal/9.wav\n", "train.txt, line 2: must name a sound file of"),
        ("train.txt", "anomaly/x.wav\n", "x.wav: train and held out must hold normal sound only, got an anomaly"),
        ("test.txt", "normal/1.wav\n", "1.wav: must not be tested with and be in train or held out"),
        ("held_out.txt", "normal/0.wav\n", "0.wav: must be in train or held out, got both"),
        ("test.txt", None, "test.txt: must be a list of sound files: No such file or directory"),
    ],
)
def test_lists_that_cannot_be_are_named(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", ["normal/0.wav", "normal/1.wav", "normal/2.wav", "anomaly/x.wav"]))
    zero, one, two = dataset.labelled("normal")
    save_split(Split(train=(zero, one), held_out=(two,), test=dataset.labelled("anomaly")), tmp_path / "lists", dataset.root)
    if text is None:
        (tmp_path / "lists" / name).unlink()
    else:
        (tmp_path / "lists" / name).write_text(text)
    with pytest.raises(SourceError) as error:
        load_split(tmp_path / "lists", dataset)
    assert message in str(error.value)
