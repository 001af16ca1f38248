"""What clients may ask: query parameters and bodies."""

import json
import re
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from starlette.requests import Request

from monitor.config.fields import DESCRIBED
from monitor.config.messages import shown
from monitor.json_lines import to_json
from monitor.web.problems import Problem, validated

EVENT_ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
FIRST, LAST = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (1970, 9000))


def _text(value: object) -> object:
    """A number would count as Unix time."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\dT", value):
        raise ValueError(f"must be a time such as 2026-11-21T10:00:00Z, got {shown(value)}")
    return value


Moment = Annotated[AwareDatetime, Field(ge=FIRST, le=LAST), BeforeValidator(_text)]
STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=DESCRIBED)


class HistoryQuery(BaseModel):
    """A stretch of history, by default the last hour in steps of 10 s."""

    model_config = STRICT

    from_: Moment | None = Field(default=None, alias="from")
    """RFC 3339; by default an hour before `to`."""

    to: Moment | None = None
    """By default now."""

    step: Annotated[int, Field(ge=10, le=31_536_000)] = 10
    """Seconds; widened if there would be more than 2,000 points."""

    @model_validator(mode="after")
    def _in_order(self) -> "HistoryQuery":
        if self.from_ is not None and self.to is not None and self.from_ >= self.to:
            raise ValueError("from must be before to")
        return self


class EventsQuery(BaseModel):
    """A machine's last events."""

    model_config = STRICT

    before: Moment | None = None
    """Only events that started before this time, RFC 3339."""

    after_id: Annotated[str, StringConstraints(pattern=EVENT_ID)] | None = None
    """Also those that started at that time and have a greater id. Pass `started_at` and `id` of the last event to read on."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """At most this many."""


class Login(BaseModel):
    """The body of `api/login`."""

    model_config = STRICT | ConfigDict(strict=True)

    password: Annotated[str, StringConstraints(max_length=200)]
    """Of the administrator or of viewers."""


Query = TypeVar("Query", bound=BaseModel)


def query(model: type[Query], request: Request) -> Query:
    """The query parameters as a model; Problem names the wrong one."""
    given = request.query_params.multi_items()
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name, _ in given:
        if name not in names or sum(other == name for other, _ in given) > 1:
            raise Problem(422, f"each parameter must be one of {', '.join(names)}, and given once")
    found: Query = validated(model, dict(given))
    return found


def rfc3339(moment: datetime) -> str:
    """As in the service's messages: UTC with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def json_body(request: Request) -> dict[str, Any]:
    """The body, which must be a JSON object; an empty body counts as one."""
    try:
        found = json.loads(await request.body() or b"{}")
        to_json(found).encode()  # the service must be able to read it: no infinite number, no half of a character
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Problem(400, "the body must be a JSON object")
    return found
