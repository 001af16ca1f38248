r"""Layouts of data sets: how labels are read from a file's path, one entry of `LAYOUTS` each.

| layout | files |
|---|---|
| mimii | `[0_dB_fan/]fan/id_00/{normal,abnormal}/00000000.wav`; the same number at another SNR is the same recording |
| toyadmos | `[ch1/]{NormalSound,AnomalousSound}_{IND,CNT}/1200010001_ToyCar_case2_normal_IND_ch1_0001.wav`; file per channel |
| dcase2020 | `ToyCar/{train,test}/{normal,anomaly}_id_01_00000000.wav` |
| dcase2021 | `fan/*/section_00_{source,target}_{train,test}_{normal,anomaly}_0000[_attributes].wav`; later years too |
| plain | `normal/` and, if any, `anomaly/` or `abnormal/`, with sound files in any folders below |

In a plain folder, files whose names differ only in a last `-NNN` (three to five digits; more are a time) are cuts of one
recording, in that order: `monitor record` names the clips of one session so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.datasets.clip import Clip, Label

_LABELS: dict[str, Label] = {
    "normal": "normal",
    "NormalSound": "normal",
    "abnormal": "anomaly",
    "anomaly": "anomaly",
    "AnomalousSound": "anomaly",
}
Groups = dict[str, Any]  # the groups of a pattern, by name; None where optional and absent


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one kind of data set names its files.

    `pattern` is searched in a file's absolute path, so that a root inside the data set works as well. Where
    it is `anchored`, it must match the path below the root. `fields` turns its groups into fields of the clip.
    """

    files: str
    pattern: re.Pattern[str]
    fields: Callable[[Groups], dict[str, Any]]
    anchored: bool = False
    skipped: re.Pattern[str] | None = None  # files without a machine

    def clip(self, root: Path, path: Path) -> Clip | None:
        """The clip at `root / path`, or None if its name does not fit."""
        whole = path.as_posix() if self.anchored else (root / path).as_posix()
        found = (self.pattern.fullmatch if self.anchored else self.pattern.search)(whole)
        if found is None:
            return None
        groups = found.groupdict()
        return Clip(path=root / path, label=_LABELS[groups["label"]], **self.fields(groups))


def _mimii(found: Groups) -> dict[str, Any]:
    machine, above = found["machine"], found["above"] or ""
    return {
        "recording": f"{machine}/{found['id']}/{found['label']}/{found['number']}",
        "machine": machine,
        "id": found["id"],
        "attributes": {"snr": above.removesuffix(f"_{machine}")} if above.endswith(f"_{machine}") else {},
    }


def _toyadmos(found: Groups) -> dict[str, Any]:
    names = ("experiment", "machine", "id", "condition", "run", "take")
    return {
        "recording": "_".join(found[name] for name in names),
        "machine": found["machine"],
        "id": found["id"],
        "attributes": {name: found[name] for name in ("condition", "run", "channel")},
    }


def _dcase2020(found: Groups) -> dict[str, Any]:
    return {
        "recording": "/".join(found[name] for name in ("machine", "part", "label", "id", "number")),
        **{name: found[name] for name in ("part", "machine", "id")},
    }


def _dcase2021(found: Groups) -> dict[str, Any]:
    return {
        "recording": "/".join(found[name] for name in ("machine", "section", "domain", "part", "label", "number")),
        **{name: found[name] for name in ("part", "machine", "section", "domain")},
        "attributes": _attributes(found["attributes"] or "noAttribute"),
    }


def _attributes(text: str) -> dict[str, str]:
    """`vel_6_loc_A` is two names and values; other text (`0_g_25_mm`, `strength_1_ambient`) is one value."""
    words = text.split("_")
    if text == "noAttribute":
        return {}
    if len(words) % 2 or not all(name[:1].isalpha() for name in words[::2]):
        return {"attributes": text}
    return dict(zip(words[::2], words[1::2], strict=True))


def _plain(found: Groups) -> dict[str, Any]:
    return {"recording": f"{found['label']}/{found['recording']}"}


LAYOUTS = {
    "mimii": Layout(
        files="<type>/id_00/{normal,abnormal}/00000000.wav",
        pattern=re.compile(
            r"(?:/(?P<above>[^/]+))?/(?P<machine>[^/]+)/(?P<id>id_\d+)/(?P<label>normal|abnormal)/(?P<number>\d+)\.[^./]+$"
        ),
        fields=_mimii,
    ),
    "toyadmos": Layout(
        files="{NormalSound,AnomalousSound}_IND/1200010001_ToyCar_case2_normal_IND_ch1_0001.wav",
        pattern=re.compile(
            r"/(?P<label>NormalSound|AnomalousSound)_(?P<run>IND|CNT)/(?:[^/]+/)*(?P<experiment>\w+?)_(?P<machine>[^_/]+)_"
            r"(?P<id>case[^_/]+)_(?P<condition>[^/]+)_(?P=run)_ch(?P<channel>\d+)_(?P<take>\d+)\.[^./]+$"
        ),
        fields=_toyadmos,
        skipped=re.compile(r"/EnvironmentalNoise_CNT/"),
    ),
    "dcase2020": Layout(
        files="<type>/{train,test}/{normal,anomaly}_id_00_00000000.wav",
        pattern=re.compile(
            r"/(?P<machine>[^/]+)/(?P<part>train|test)/(?P<label>normal|anomaly)_(?P<id>id_\d+)_(?P<number>\d+)\.[^./]+$"
        ),
        fields=_dcase2020,
    ),
    "dcase2021": Layout(
        files="<type>/*/section_00_{source,target}_{train,test}_{normal,anomaly}_0000_*.wav",
        pattern=re.compile(
            r"/(?P<machine>[^/]+)/[^/]+/section_(?P<section>\d+)_(?P<domain>source|target)_(?P<part>train|test)_"
            r"(?P<label>normal|anomaly)_(?P<number>\d+)(?:_(?P<attributes>[^/]*))?\.[^./]+$"
        ),
        fields=_dcase2021,
        skipped=re.compile(r"/supplement/"),  # since 2025: noise alone, or the machine without noise
    ),
    "plain": Layout(
        files="normal/ and optionally anomaly/ or abnormal/",
        pattern=re.compile(r"(?P<label>normal|anomaly|abnormal)/(?P<recording>.+?)(?:-(?P<cut>\d{3,5}))?\.[^./]+", re.DOTALL),
        fields=_plain,
        anchored=True,
    ),
}
