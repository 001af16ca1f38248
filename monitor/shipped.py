"""Files that come with the program: default configuration, units, bundles, the demo's recordings."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "share"  # setup.py puts them there in a wheel


def shipped(name: str | Path) -> Path:
    """The path of a file or folder by its path in a checkout, such as `configs/monitor.yaml`. It need not exist."""
    return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / name


def is_example(config: Path) -> bool:
    """Whether a configuration is the one that comes with the program, of which nothing was chosen by a person."""
    try:
        return config.read_bytes() == shipped("configs/monitor.yaml").read_bytes()
    except OSError:
        return False
