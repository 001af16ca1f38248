"""Open clips as the pieces of recordings that training and calibration read."""

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.audio.recording import Recording
from monitor.errors import SourceError
from train.datasets.clip import Clip
from train.datasets.parallel import n_cores
from train.datasets.partition import Split

_UNSTATED_S = 1800.0  # assumed of a file whose header states no length
_FEW_S = 1800.0  # of sound; less is read faster by one process than others start
_FEW_BYTES = 50_000_000  # the same of files that are not opened yet


@dataclass(frozen=True)
class Piece:
    """A recording, or the part of it between two of its times."""

    recording: Recording
    start_s: float = 0.0
    stop_s: float = float("inf")

    @property
    def seconds(self) -> float:
        """The approximate length; half an hour where a file does not state it."""
        whole = _UNSTATED_S if self.recording.duration_s is None else self.recording.duration_s
        return max(0.0, min(self.stop_s, whole) - self.start_s)


def workers_for(pieces: Iterable[Piece]) -> int:
    """The number of processes to read pieces with: at most one per piece, and one for less than half an hour of sound."""
    pieces = list(pieces)
    return 1 if sum(piece.seconds for piece in pieces) < _FEW_S else min(n_cores(), len(pieces))


def workers_to_read(clips: Iterable[Clip]) -> int:
    """The number of processes to read whole files with: one if they are small."""
    return 1 if sum(clip.path.stat().st_size for clip in clips) < _FEW_BYTES else n_cores()


def open_clip(clip: Clip, *, sample_rate_hz: int, channel: int | None = None) -> Recording:
    """The clip's recording, of `channel` or of the mean of all; a file that is one channel has no other."""
    return Recording(clip.path, sample_rate_hz=sample_rate_hz, channel=None if clip.file_channel is not None else channel)


def of_channel(clips: Iterable[Clip], channel: int | None) -> tuple[Clip, ...]:
    """The clips of one channel where each channel is a separate file; otherwise, or for None, all clips."""
    clips = tuple(clips)
    kept = tuple(clip for clip in clips if channel is None or clip.file_channel in (None, channel))
    if clips and not kept:
        channels = ", ".join(str(number) for number in sorted({clip.file_channel or 0 for clip in clips}))
        raise SourceError(f"{clips[0].path.parent}: channel must be one of {channels}, got {channel}")
    return kept


def pieces(clips: Iterable[Clip], *, sample_rate_hz: int, channel: int | None = None) -> list[Piece]:
    """Each clip as a whole."""
    kept = of_channel(clips, channel)
    return [Piece(open_clip(clip, sample_rate_hz=sample_rate_hz, channel=channel)) for clip in kept]


def split_pieces(split: Split, *, sample_rate_hz: int, channel: int | None = None) -> tuple[list[Piece], list[Piece]]:
    """Pieces to train on and pieces held out: other clips, or the last parts of the same ones."""
    train = pieces(split.train, sample_rate_hz=sample_rate_hz, channel=channel)
    if split.cut is None:
        return train, pieces(split.held_out, sample_rate_hz=sample_rate_hz, channel=channel)
    cuts = [(piece.recording, cut_s(piece.recording, split.cut)) for piece in train]
    return [Piece(recording, stop_s=at_s) for recording, at_s in cuts], [
        Piece(recording, start_s=at_s) for recording, at_s in cuts
    ]


def cut_s(recording: Recording, cut: float) -> float:
    """The start of the held-out part, s."""
    if recording.duration_s is None:
        raise SourceError(f"{recording.path}: the length of a single recording must be in its header")
    return recording.duration_s * cut
