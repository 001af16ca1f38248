"""Read recordings as replay does, with limits on memory and time, and print how each ended. See test_damaged_recordings."""

import json
import resource
import signal
import sys
from pathlib import Path

from monitor.audio.recording import Recording
from monitor.errors import SourceError

MEMORY_BYTES = 1 << 30  # address space, most of which libraries take
FILE_S = 20


def read(path: Path) -> dict[str, object]:
    n_samples, error = 0, None
    try:
        recording = Recording(path, sample_rate_hz=16_000)
        for block in recording.blocks():
            n_samples += len(block.samples)
        problem = recording.channel_problem
        assert problem is None or "\n" not in problem
    except SourceError as caught:
        error = str(caught)
    return {"file": path.name, "n_samples": n_samples, "error": error}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        signal.alarm(FILE_S)  # kills
        print(json.dumps(read(path)), flush=True)
