"""Data sets: which recordings there are, and which of them are held out."""

from train.datasets.folder import Dataset, read_folder
from train.datasets.split import Piece, split

__all__ = ["Dataset", "Piece", "read_folder", "split"]
