"""Put a folder that was written aside in the place of an older one, whole or not at all, and lose nothing of others."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(out: Path, *, ours: Callable[[str], bool]) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `out` when all went well.

    Of an older `out` only files that are `ours`, by their POSIX path within, are replaced or removed; others are carried
    over. A failure or an interruption leaves what was there before.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield aside
        _carry_over(out, aside, ours)
        aside.chmod(0o755)
        _swap(out, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _carry_over(old: Path, new: Path, ours: Callable[[str], bool]) -> None:
    """Copy what somebody else put into the old folder."""
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not ours(name) and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def _swap(out: Path, new: Path) -> None:
    old = new.with_name(new.name + "-old")
    with suppress(FileNotFoundError):
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
