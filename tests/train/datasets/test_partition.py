"""A partition never leaks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import SourceError
from tests.signals import noise
from tests.train.datasets.trees import TOYADMOS, make
from train.datasets import (
    Clip,
    Dataset,
    pieces,
    read_dataset,
    split_dataset,
    split_pieces,
)


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
