"""Data sets: find sound files, read labels and times from their names, and split them into training, held-out and test."""

from train.datasets.clip import Clip, Dataset
from train.datasets.layouts import LAYOUTS
from train.datasets.left_out import normal_pieces
from train.datasets.lists import listed, load_split, save_split
from train.datasets.partition import Split, split_dataset
from train.datasets.pieces import Piece, cut_s, of_channel, open_clip, pieces, split_pieces, workers_for
from train.datasets.read import read_dataset
from train.datasets.sessions.order import RecordingOrder, clip_folds, folds, one_session_note, recording_order

__all__ = [
    "LAYOUTS",
    "Clip",
    "Dataset",
    "Piece",
    "RecordingOrder",
    "Split",
    "clip_folds",
    "cut_s",
    "folds",
    "listed",
    "load_split",
    "normal_pieces",
    "of_channel",
    "one_session_note",
    "open_clip",
    "pieces",
    "read_dataset",
    "recording_order",
    "save_split",
    "split_dataset",
    "split_pieces",
    "workers_for",
]
