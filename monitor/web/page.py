"""The page's own files, below `static/`. Every other path is a view of the page, and gets its HTML."""

import gzip
import os
import re
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from monitor.files import read_regular
from monitor.web.problems import Problem

STATIC = Path(__file__).with_name("static")
HASHED = re.compile(r"[.-][0-9a-f]{8,}\.\w+$")  # its content never changes
MAX_HTML = 200_000
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
TYPES |= {".json": "application/json", ".png": "image/png", ".ico": "image/x-icon", ".webmanifest": "application/manifest+json"}
TYPES |= {".txt": "text/plain", ".woff2": "font/woff2"}
TEXT = (".js", ".css", ".svg")
NOT_BUILT = "the page's files are missing; a checkout needs: scripts/make-page"


def serve(request: Request) -> Response:
    """A file of the page, or its HTML."""
    path: str = request.scope["path"]
    if not path.startswith("/static/"):
        return _html(request)
    name = path.rpartition("/")[2]
    if (media_type := TYPES.get(Path(name).suffix)) is None or (file := _inside(path.removeprefix("/static/"))) is None:
        raise HTTPException(404)
    cache = "public, max-age=31536000, immutable" if HASHED.search(name) else "no-cache"
    status = file.stat()
    response: Response = FileResponse(file, media_type=media_type, headers={"Cache-Control": cache}, stat_result=status)
    etag = response.headers["etag"]
    if "gzip" in request.headers.get("accept-encoding", "") and file.suffix in TEXT:
        etag = f'{etag[:-1]}-gzip"'
        headers = {"Cache-Control": cache, "Content-Encoding": "gzip", "ETag": etag, "Vary": "Accept-Encoding"}
        response = Response(_compressed(file, status.st_mtime_ns), media_type=media_type, headers=headers)
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": cache})
    return response


@lru_cache(maxsize=40)
def _compressed(file: Path, changed_ns: int) -> bytes:
    """A file of the page, as it was then, compressed: all of them take 62 kB."""
    return gzip.compress(file.read_bytes(), mtime=0)


def _html(request: Request) -> Response:
    """The HTML, with the way from this view back to the page's root, so that its URLs can be relative.

    The page needs not know under which path a proxy shows it.
    """
    try:
        html = read_regular(STATIC / "index.html", max_bytes=MAX_HTML).decode()
    except OSError:
        raise Problem(503, NOT_BUILT) from None
    raw = request.scope.get("raw_path", b"/").partition(b"?")[0]
    root = "../" * (raw.count(b"/") - 1) or "./"
    return HTMLResponse(html.replace('<base href="./">', f'<base href="{root}">', 1), headers={"Cache-Control": "no-cache"})


def _inside(path: str) -> Path | None:
    """The regular file that a path names; None if there is none, or it is not within the folder."""
    if "\0" in path or "\\" in path:
        return None
    file = Path(os.path.normpath(STATIC / path))
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return real if real.is_file() and real.is_relative_to(STATIC.resolve()) else None
