"""Which clips of a data set a bundle was trained on, where that is known."""

from pathlib import Path

from monitor.bundle.manifest import Manifest
from train.datasets import Dataset, Split, load_split

SPLIT = "report/split"


def known_split(folder: Path, manifest: Manifest, dataset: Dataset, *, data_sha256: str, given: Path | None) -> Split | None:
    """The lists that were given, else the bundle's own if it was trained on this very data set, else None."""
    if given is None and data_sha256 == manifest.provenance.dataset_sha256 and (folder / SPLIT).is_dir():
        given = folder / SPLIT
    return None if given is None else load_split(given, dataset)
