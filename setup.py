"""The part of the build that pyproject.toml cannot state: files from outside the packages, for `monitor/shipped.py` to find."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError

SHIPPED = ("configs/monitor.yaml", "configs/monitor.schema.json", "systemd/*.*", "models/*/*.*", "demo/*.flac")
PAGE = Path("monitor/web/static/index.html")  # one of the files that scripts/make-page writes


class BuildPy(build_py):
    """Copies the shipped files to monitor/share, under their names in a checkout. An editable install uses the checkout's."""

    def run(self) -> None:
        """Build. An error if the page has not been built."""
        super().run()
        if self.editable_mode:
            return
        if not PAGE.exists():
            raise BaseError(f"{PAGE} is missing: run scripts/make-page")
        share = Path(self.build_lib, "monitor", "share")
        shutil.rmtree(share, ignore_errors=True)
        for path in sorted(path for pattern in SHIPPED for path in Path().glob(pattern)):
            (share / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, share / path)


setup(cmdclass={"build_py": BuildPy})
