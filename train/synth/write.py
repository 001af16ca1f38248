"""Write synthetic sound to WAV or FLAC files."""

from pathlib import Path

import soundfile
from tqdm import tqdm

from monitor.errors import SourceError, UsageError
from train.synth.scene import Scene

FORMATS = {".wav": "WAV", ".flac": "FLAC"}


def write_scene(path: Path, scene: Scene, *, seconds: float) -> None:
    """Write one recording, 16 bit mono, with a progress bar; the file appears only when it is complete."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: must end in {' or '.join(FORMATS)}, got {path.suffix or 'no suffix'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    rate_hz = scene.machine.sample_rate_hz
    try:
        with (
            soundfile.SoundFile(aside, "w", rate_hz, 1, "PCM_16", format=FORMATS[path.suffix.lower()]) as file,
            tqdm(total=seconds, desc=path.name, unit="s", disable=None, leave=False) as bar,
        ):
            for chunk in scene.chunks(seconds):
                file.write(chunk)
                bar.update(len(chunk) / rate_hz)
        aside.replace(path)
    except soundfile.LibsndfileError as error:
        raise SourceError(f"{path}: cannot be written: {error.error_string}") from error
    finally:
        aside.unlink(missing_ok=True)
