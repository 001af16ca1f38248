"""Open clips as the pieces of recordings that training and calibration read."""

from collections.abc import Iterable

from monitor.core.errors import SourceError
from monitor.sources.recording import Recording
from train.datasets.clip import Clip
from train.datasets.partition import Split
from train.datasets.piece import Piece


def open_clip(clip: Clip, *, sample_rate_hz: int, channel: int | None = None) -> Recording:
    """The clip's recording, of `channel` or of the mean of all; a file that is one channel has no other."""
    return Recording(clip.path, sample_rate_hz=sample_rate_hz, channel=None if clip.file_channel is not None else channel)


def of_channel(clips: Iterable[Clip], channel: int | None) -> tuple[Clip, ...]:
    """Where each channel is a file of its own, the files of this one; otherwise, or for None, all clips."""
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


def split_pieces(
    split: Split, *, held_out: float, sample_rate_hz: int, channel: int | None = None
) -> tuple[list[Piece], list[Piece]]:
    """Pieces to train on and pieces held out.

    Where both are the same clips, each is cut in time and its last part, the share `held_out` of it, is held out.
    """
    train = pieces(split.train, sample_rate_hz=sample_rate_hz, channel=channel)
    if not split.in_time:
        return train, pieces(split.held_out, sample_rate_hz=sample_rate_hz, channel=channel)
    cuts = [(piece.recording, _cut_s(piece.recording, held_out)) for piece in train]
    return [Piece(recording, stop_s=cut_s) for recording, cut_s in cuts], [
        Piece(recording, start_s=cut_s) for recording, cut_s in cuts
    ]


def _cut_s(recording: Recording, held_out: float) -> float:
    if recording.duration_s is None:
        raise SourceError(f"{recording.path}: a single recording must say how long it is")
    return recording.duration_s * (1.0 - held_out)
