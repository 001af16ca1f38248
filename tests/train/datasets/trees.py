"""Folders in the published layouts, with noise as sound."""

from collections.abc import Iterable
from pathlib import Path

import soundfile

from tests.signals import noise

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
