"""An S3 server on loopback: moto's, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.broker import free_port
from tests.waiting import wait_until

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def running_s3(folder: Path, bucket: str) -> Iterator[tuple[str, Any]]:
    """The URL of a server with an empty bucket, and its file system. `folder` receives its log."""
    import s3fs

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    try:
        url = f"http://127.0.0.1:{port}"
        s3 = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=url, use_listings_cache=False, skip_instance_cache=True)

        def made() -> bool:
            try:
                s3.mkdir(bucket)
            except OSError:
                return False
            return True

        wait_until(made, what="the S3 server")
        yield url, s3
    finally:
        server.kill()
        server.wait()
