"""Errors as the page's clients receive them: `application/problem+json` (RFC 9457)."""

import re
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from monitor.config.messages import problems
from monitor.errors import StethosError
from monitor.json_lines import to_json

MEDIA_TYPE = "application/problem+json"
_FIELD = re.compile(
    r"([a-z_]+(?:\.[a-z0-9_]+)*) must (?:be )?(.+?)(?:, got .*)?"
)  # the first words of every message about a value
_KNOWN = re.compile(r"([a-z_]+) is not a setting, (?:must be )?(.+)")


class Problem(StethosError):
    """A request that cannot be answered, with its HTTP status."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The problem as JSON; `field` and `allowed` name the wrong value and what it may be, if one value is wrong."""
        text = str(self)
        body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        found = _FIELD.fullmatch(text) or _KNOWN.fullmatch(text)
        return {**body, "detail": text} | ({} if found is None else {"field": found[1], "allowed": found[2]})


def problem_response(request: Request, error: Exception) -> Response:
    """The response for a `Problem`, or for any other error, which is ours."""
    if not isinstance(error, Problem):
        error = Problem(500, "internal error; see the page's log (journalctl -u stethos-web)")
    return Response(to_json(error.body), error.status, {**error.headers, "Cache-Control": "no-store"}, MEDIA_TYPE)


def validated(model: type[BaseModel], values: dict[str, Any]) -> Any:
    """The values as a model; Problem 422 names the first wrong one."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Problem(422, problems(error, model)[0][1].replace("is not a setting", "is not known")) from None
