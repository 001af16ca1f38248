"""The signed repository as a node sees it (TUF): the only file that imports python-tuf.

Nothing that comes over the network is used before its signature, length and hash are checked. The metadata seen last is kept, so
that an older state is not accepted later.
"""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import FrameType

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher
from urllib3.exceptions import HTTPError

from monitor.errors import UsageError
from monitor.files import atomic_write, read_regular
from monitor.releases.archive import MAX_ARCHIVE_BYTES
from monitor.releases.index import MAX_BYTES as MAX_INDEX_BYTES
from monitor.releases.index import Assignment, Index, archive_path, index_path, read_index
from monitor.update.errors import UpdateError

BUILT = datetime(2026, 11, 30, tzinfo=timezone.utc)  # no clock that is right shows an earlier time
STEP_BACK = timedelta(days=1)  # by which a clock may be corrected
MAX_ROOT_BYTES = 512_000
SOCKET_TIMEOUT_S = 20


class TooSlow(BaseException):  # so that no library takes it for an error of its own
    """The downloads took longer than they may."""


class SignedRepository:
    """The repository at a URL, through the state that is kept in a folder."""

    def __init__(self, url: str, *, root: Path, folder: Path, timeout_s: float, now: datetime | None = None) -> None:
        """`root` is the trusted root. UpdateError if there is none, or if the clock is wrong."""
        self._url = url.rstrip("/")
        self._metadata, self._targets = folder / "metadata", folder / "downloads"
        self._timeout_s = timeout_s
        self._check_clock(now or datetime.now(timezone.utc))
        try:
            trusted = read_regular(root, max_bytes=MAX_ROOT_BYTES)
        except FileNotFoundError as error:
            raise UpdateError(f"no repository is trusted yet: monitor update --trust 1.root.json ({root} is missing)") from error
        except OSError as error:
            raise UpdateError(f"{root}: cannot be read: {error.strerror}") from error
        with self._errors():
            for made in (self._metadata, self._targets):
                made.mkdir(parents=True, exist_ok=True)
            self._updater = Updater(
                str(self._metadata),
                f"{self._url}/metadata/",
                str(self._targets),
                f"{self._url}/targets/",
                fetcher=Urllib3Fetcher(socket_timeout=min(SOCKET_TIMEOUT_S, round(timeout_s))),
                config=UpdaterConfig(app_user_agent="stethos"),
                bootstrap=trusted,
            )

    def index(self, group: str) -> Index:
        """The releases of a group. UpdateError if the repository cannot be reached or trusted."""
        return read_index(self._read(index_path(group), max_bytes=MAX_INDEX_BYTES), group)

    def archive(self, group: str, assignment: Assignment) -> bytes:
        """The archive of a bundle."""
        return self._read(archive_path(group, assignment), max_bytes=MAX_ARCHIVE_BYTES)

    def _read(self, path: str, *, max_bytes: int) -> bytes:
        with self._errors(), _deadline(self._timeout_s):
            target = self._updater.get_targetinfo(path)
            if target is None:
                raise UpdateError(f"{self._url} has no {path}: is update.group the group of this node?")
            if target.length > max_bytes:
                raise UpdateError(
                    f"{self._url}: {path} must have at most {max_bytes / 1e6:g} MB, got {target.length / 1e6:.1f} MB"
                )
            file = Path(self._updater.download_target(target))
            try:
                return file.read_bytes()
            finally:
                file.unlink()

    def _check_clock(self, now: datetime) -> None:
        try:
            seen = datetime.fromtimestamp((self._metadata / "timestamp.json").stat().st_mtime, timezone.utc)
        except OSError:
            seen = BUILT
        earliest = max(BUILT, seen - STEP_BACK)
        if now < earliest:
            raise UpdateError(
                f"this computer's clock is wrong: it shows {now:%Y-%m-%d %H:%M} UTC, before {earliest:%Y-%m-%d %H:%M}; set it "
                "(timedatectl), because a signature's expiry is checked by it"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the errors of TUF, of HTTP and of the disk into one line each."""
        try:
            yield
        except ExpiredMetadataError as error:
            raise UpdateError(
                f"{self._url}: {error}: nobody has signed it anew (train release refresh), an old state is being served, or this "
                "computer's clock is wrong"
            ) from error
        except BadVersionNumberError as error:
            raise UpdateError(f"{self._url}: an older state than the one seen before is being served: {error}") from error
        except UnsignedMetadataError as error:
            raise UpdateError(f"{self._url}: not signed by the trusted keys: {error}") from error
        except (LengthOrHashMismatchError, DownloadLengthMismatchError) as error:
            raise UpdateError(f"{self._url}: a file is not the one that was signed: {error}") from error
        except (SlowRetrievalError, TooSlow) as error:
            if isinstance(cause := _cause(error), OSError):  # urllib3 counts a refused connection as a timeout
                raise UpdateError(f"{self._url}: cannot be reached: {cause.strerror or cause}") from error
            limit = f"a download may take {self._timeout_s:g} s (update.timeout_s)"
            raise UpdateError(f"{self._url}: too slow: {limit}") from error
        except DownloadHTTPError as error:
            raise UpdateError(
                f"{self._url}: {error}: is update.url the folder that contains metadata/ and targets/, and is all of it uploaded?"
            ) from error
        except DownloadError as error:
            cause = _cause(error)
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or type(cause).__name__
            raise UpdateError(f"{self._url}: cannot be reached: {reason}") from error
        except HTTPError as error:
            raise UpdateError(f"{self._url}: a download was cut off: {error}") from error
        except (RepositoryError, ValueError) as error:
            hint = "is update.url the repository's address?"
            raise UpdateError(f"{self._url}: the metadata cannot be used: {error} ({hint})") from error
        except OSError as error:
            raise UpdateError(f"{error.filename or self._metadata}: {error.strerror or error}") from error


def trust(path: Path, root: Path) -> list[str]:
    """Trust the repository whose first root is in the file `path`; return the ids of its keys. UsageError if it is no root."""
    try:
        content = read_regular(path, max_bytes=MAX_ROOT_BYTES)
        metadata: Metadata[Root] = Metadata.from_bytes(content)
        if not isinstance(metadata.signed, Root):
            raise UsageError(f"--trust must be the root of a repository (1.root.json), got {metadata.signed.type} in {path}")
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except OSError as error:
        raise UsageError(f"--trust: {path}: cannot be read: {error.strerror}") from error
    except (RepositoryError, ValueError) as error:
        raise UsageError(f"--trust must be the root of a repository (1.root.json): {path}: {error}") from error
    root.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(root, content)
    root.chmod(0o644)
    return sorted(metadata.signed.roles["root"].keyids)


def forget(folder: Path) -> None:
    """Forget the metadata of the repository that was trusted before."""
    shutil.rmtree(folder / "metadata", ignore_errors=True)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TooSlow after that time, also while bytes trickle in. Only in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _cause(error: BaseException) -> BaseException:
    """The first cause of an error. urllib3 keeps some of them as `reason`."""
    while isinstance(cause := error.__cause__ or getattr(error, "reason", None), BaseException):
        error = cause
    return error
