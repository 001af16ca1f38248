"""Scores on a real slide rail: one per clip, and the position of the anomalous clips among held-out normal ones.

    python -m benchmarks.slide_rail

Data: ../shared/data/slide-rail-id00 (MIMII, through DCASE 2020 Task 2). Trained on every other normal clip, without tuning.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.report import Table, make_parser, publish

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "slide-rail-id00"


def main() -> None:
    """Train on half of the clips, replay the rest, and print the scores."""
    arguments = make_parser(__doc__).parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA.relative_to(ROOT.parent)} is not there: this benchmark needs the real recordings beside the project")
    normal = sorted((DATA / "normal").glob("*.wav"))
    anomalous = sorted((DATA / "anomaly").glob("*.wav"))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "set"
        (dataset / "normal").mkdir(parents=True)
        for clip in normal[::2]:
            shutil.copy(clip, dataset / "normal")
        bundle = Path(folder) / "slide-rail"
        run("train.cli.main", "fit", dataset, "--recipe", "mimii-mel", "--out", bundle)
        lines = run("monitor.cli.main", "--replay", *normal[1::2], *anomalous, "--model", bundle).splitlines()
    files = [json.loads(line) for line in lines if '"type": "file"' in line]
    held_out = np.array([file["score"] for file in files[: len(normal[1::2])]])
    rows = [
        [
            Path(file["file"]).name,
            f"{file['score']:.3f}",
            f"{file['ratio']:.3f}",
            file["verdict"],
            f"{100 * np.mean(held_out < file['score']):.0f}",
        ]
        for file in files
    ]
    wrong = sum(file["verdict"] == "anomaly" for file in files[: len(held_out)])
    table = Table("scores", ["clip", "score", "ratio", "verdict", "percentile among held-out normal"], rows)
    result = f"{wrong} of {len(held_out)} held-out normal clips are above the threshold; two anomalous clips prove nothing."
    publish([table, result], arguments.json)


def run(module: str, *arguments: object) -> str:
    """The output of one of our own commands."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT).stdout


if __name__ == "__main__":
    main()
