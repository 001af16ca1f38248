"""The split of a data set that a bundle was trained on, where it is known."""

from collections.abc import Sequence
from pathlib import Path

from monitor.bundle.manifest import Manifest
from train.calibration.cross_fitted import CrossFitted
from train.datasets import Dataset, Piece, Split, listed, load_split
from train.datasets.clip import hash_of

SPLIT = "report/split"


def known_split(folder: Path, manifest: Manifest, dataset: Dataset, *, data_sha256: str, given: Path | None) -> Split | None:
    """The given lists, else the bundle's own if it was trained on exactly this data set, else None."""
    if given is None and data_sha256 == manifest.provenance.dataset_sha256 and (folder / SPLIT).is_dir():
        given = folder / SPLIT
    return None if given is None else load_split(given, dataset)


def trained_pieces(pieces: Sequence[Piece], dataset: Dataset, folder: Path, kept: CrossFitted | None) -> list[Piece]:
    """The pieces that the bundle in `folder` was trained on, by the hashes of their files where the bundle has them.

    Otherwise names in its list are compared. They count only where the data set contains all of them and other sound,
    because other data sets often have some of the same names.
    """
    if kept is not None:
        return [piece for piece in pieces if hash_of(piece.recording.path) in kept.sha256]
    path = folder / SPLIT / "train.txt"
    names = listed(path) if path.is_file() else frozenset()
    found = [piece for piece in pieces if piece.recording.path.relative_to(dataset.root).as_posix() in names]
    return found if len(found) == len(names) < len(pieces) else []
