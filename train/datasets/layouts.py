r"""Layouts of data sets: how labels are read from a file's path, one entry of `LAYOUTS` each.

| layout | files |
|---|---|
| mimii | `[0_dB_fan/]fan/id_00/{normal,abnormal}/00000000.wav`; the same number at another SNR is the same recording |
| toyadmos | `[ch1/]{NormalSound,AnomalousSound}_{IND,CNT}/1200010001_ToyCar_case2_normal_IND_ch1_0001.wav`; file per channel |
| dcase2020 | `ToyCar/[{train,test}/]{normal,anomaly}_id_01_00000000.wav` |
| dcase2021 | `fan/[*/]section_00_{source,target}_{train,test}_{normal,anomaly}_0000[_attributes].wav`; MIMII DUE, DG too |
| plain | `[fan/][{train,test}/]normal/` and, if any, `anomaly/`, with files in any folders below; or none of these |

Upper and lower case are the same. In a plain folder, files whose names differ only in a last `-NNN` (three to five digits; more
are a time) are cuts of one recording, in that order: `monitor record` names the clips of one session so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.datasets.clip import Clip, Label

NORMAL = ("normal", "good", "healthy", "ok")  # names of folders
ANOMALY = ("abnormal", "anomaly", "anomalies", "anomalous", "bad", "broken", "fault", "faults", "faulty")
_LABELS: dict[str, Label] = {
    **dict.fromkeys((*NORMAL, "normalsound"), "normal"),
    **dict.fromkeys((*ANOMALY, "anomaloussound"), "anomaly"),
}
_MACHINE = rf"(?P<machine>(?!(?:{'|'.join(_LABELS)})/)[^/]+)"  # a folder that is no label
_PARTS = ("train", "test")
_UNLABELLED = "no label"
Groups = dict[str, Any]  # the groups of a pattern, by name; None where optional and absent


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one kind of data set names its files.

    `pattern` is searched in a file's absolute path, so that a root inside the data set works as well. Where
    it is `anchored`, it must match the path below the root. `fields` turns its groups into fields of the clip.
    """

    example: str
    pattern: re.Pattern[str]
    fields: Callable[[Groups], dict[str, Any]]
    anchored: bool = False
    skipped: tuple[tuple[re.Pattern[str], str], ...] = ()  # files that cannot be used, with the reason

    def clip(self, root: Path, path: Path) -> Clip | None:
        """The clip at `root / path`, or None if its name does not fit."""
        found = self.pattern.fullmatch(path.as_posix()) if self.anchored else self.pattern.search((root / path).as_posix())
        if found is None:
            return None
        groups = found.groupdict()
        return Clip(path=root / path, label=_LABELS[groups["label"].lower()], **self.fields(groups))

    def why_skipped(self, path: Path) -> str | None:
        """The reason why the file is skipped; None for a file that should fit."""
        return next((why for pattern, why in self.skipped if pattern.search(path.as_posix())), None)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


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
    fields = {"part": _lower(found["part"]), "machine": found["named"] or found["machine"], "id": found["id"]}
    return {"recording": _joined(*fields.values(), found["label"], found["number"]), **fields}


def _dcase2021(found: Groups) -> dict[str, Any]:
    fields = {
        "part": _lower(found["part"]),
        "machine": found["named"] or found["machine"],
        "section": found["section"],
        "domain": _lower(found["domain"]),
    }
    return {
        "recording": _joined(*fields.values(), found["label"], found["number"]),
        "attributes": _attributes(found["attributes"] or "noAttribute"),
        **fields,
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
    """Folders above the label are parts, or the machine unless they begin with a digit, as days do."""
    above = (found["above"] or "").split("/")
    part = next((name.lower() for name in above if name.lower() in _PARTS), None)
    machine = "/".join(name for name in above if name.lower() not in _PARTS and not name[:1].isdigit()) or None
    return {"recording": _joined(found["label"].lower(), found["above"], found["recording"]), "part": part, "machine": machine}


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _joined(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)


LAYOUTS = {
    "mimii": Layout(
        example="fan/id_00/normal/00000000.wav",
        pattern=_pattern(
            r"(?:/(?P<above>[^/]+))?/(?P<machine>[^/]+)/(?P<id>id_\d+)/(?P<label>normal|abnormal)/(?P<number>\d+)\.[^./]+$"
        ),
        fields=_mimii,
    ),
    "toyadmos": Layout(
        example="NormalSound_IND/1200010001_ToyCar_case2_normal_IND_ch1_0001.wav",
        pattern=_pattern(
            r"/(?P<label>NormalSound|AnomalousSound)_(?P<run>IND|CNT)/(?:[^/]+/)*(?P<experiment>\w+?)_(?P<machine>[^_/]+)_"
            r"(?P<id>case[^_/]+)_(?P<condition>[^/]+)_(?P=run)_ch(?P<channel>\d+)_(?P<take>\d+)\.[^./]+$"
        ),
        fields=_toyadmos,
        skipped=((_pattern(r"/EnvironmentalNoise_CNT/"), "no machine"),),
    ),
    "dcase2020": Layout(
        example="fan/train/normal_id_00_00000000.wav",
        pattern=_pattern(
            rf"/{_MACHINE}/(?:(?P<part>train|test)(?:_rename)?/)?(?:(?P<named>[^/]+?)_)?"
            r"(?P<label>normal|anomaly)_(?P<id>id_\d+)_(?P<number>\d+)\.[^./]+$"
        ),
        fields=_dcase2020,
        skipped=((_pattern(r"/id_\d+_\d+\.[^./]+$"), _UNLABELLED),),
    ),
    "dcase2021": Layout(
        example="fan/train/section_00_source_train_normal_0000.wav",
        pattern=_pattern(
            rf"/{_MACHINE}/(?:(?:train|(?:source_|target_)?test(?:_rename)?)/)?(?:section_\d+/)?(?:(?P<named>[^/]+?)_)?"
            r"section_(?P<section>\d+)_(?P<domain>source|target)_(?P<part>train|test)_(?P<label>normal|anomaly)_(?P<number>\d+)"
            r"(?:_(?P<attributes>[^/]*))?\.[^./]+$"
        ),
        fields=_dcase2021,
        skipped=(
            (_pattern(r"/supplement(?:al)?/"), "no machine in its usual noise"),  # since 2025: noise or the machine alone
            (_pattern(r"/section_\d+_(?:(?:source|target)_)?(?:test_)?\d+(?:_[^/]*)?\.[^./]+$"), _UNLABELLED),
        ),
    ),
    "plain": Layout(
        example="normal/monday.wav",
        pattern=_pattern(
            rf"(?:(?P<above>.+?)/)??(?P<label>{'|'.join((*NORMAL, *ANOMALY))})/"
            r"(?P<recording>.+?)(?:-(?P<cut>\d{3,5}))?\.[^./]+"
        ),
        fields=_plain,
        anchored=True,
        skipped=((_pattern(r"/(?:test|eval|evaluation|unlabell?ed)/"), _UNLABELLED),),
    ),
}
