"""The description of the page's interface; `scripts/generate` writes it to monitor/web/openapi.json.

It is written from the models of MQTT's messages, which load NumPy, so the page serves the file.
"""

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from monitor import __version__
from monitor.mqtt.contract import COMMANDS as MODELS
from monitor.mqtt.messages import EventMessage, HealthMessage, InfoMessage, ResponseMessage, StateMessage
from monitor.web.api import COMMANDS
from monitor.web.queries import EventsQuery, HistoryQuery, Login

Json = dict[str, Any]
SENT = (EventMessage, HealthMessage, InfoMessage, ResponseMessage, StateMessage)
NUMBER: Json = {"type": ["number", "null"]}
TEXT: Json = {"type": "string"}
MOMENT: Json = {"type": "string", "format": "date-time"}
MACHINE: Json = {"name": "machine", "in": "path", "required": True, "schema": TEXT, "description": "Id of a machine"}
EVENT: Json = {"name": "event", "in": "path", "required": True, "schema": TEXT, "description": "Id of an event"}
HEADER: Json = {
    "name": "X-Stethos",
    "in": "header",
    "required": True,
    "schema": {"enum": ["1"]},
    "description": "Refuses requests that other sites cause",
}


def description() -> Json:
    """The OpenAPI document."""
    one = "/api/machines/{machine}"
    paths: Json = {
        "/api/session": {"get": _get("Who is logged in", _ref("Session"), open_to_all=True)},
        "/api/login": {"post": _post("Log in", "Login", _object(role={"enum": ["admin", "viewer"]}), open_to_all=True)},
        "/api/logout": {"post": _post("Log out", None, _object(role={"type": "null"}))},
        "/api/machines": {"get": _get("All machines", _object(node=TEXT, machines=_list(_ref("Machine"))))},
        one: {"get": _get("One machine", _ref("Machine"), MACHINE)},
        f"{one}/history": {"get": _get("Scores over time", _ref("History"), MACHINE, *_query(HistoryQuery))},
        f"{one}/events": {
            "get": _get("Last events, newest first", _object(events=_list(_ref("Event"))), MACHINE, *_query(EventsQuery))
        },
        f"{one}/live.pcm": {"get": _file("Live sound: 16 kHz, mono, 16 bit, little endian", "audio/L16", MACHINE)},
        "/api/events/{event}": {"get": _get("One event", _ref("Event"), EVENT)},
        "/api/events/{event}/clip.flac": {"get": _file("Sound of an event; ranges are supported", "audio/flac", EVENT)},
        "/api/events/{event}/picture.png": {"get": _file("Picture of an event", "image/png", EVENT)},
        "/api/node": {"get": _get("The node", _ref("Node"))},
        "/api/settings": {"get": _get("The settings in use", _object(settings={"type": "object"}, problems=_list(TEXT)))},
        "/api/stream": {"get": _file("Server-sent events (docs/page.md)", "text/event-stream", *_stream_parameters())},
        "/api/openapi.json": {"get": _get("This description", {"type": "object"})},
        "/metrics": {"get": _file("Metrics (docs/metrics.md)", "application/openmetrics-text")},
    }
    for name in COMMANDS:
        model = MODELS.get(name)
        summary = (model.__doc__ or name) if model else name
        paths[f"{one}/{name}"] = {"post": _post(summary, model.__name__ if model else None, _ref("ResponseMessage"), MACHINE)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stethos", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY},
        "security": [{"session": []}],
    }


_SECURITY = {
    "session": {"type": "apiKey", "in": "cookie", "name": "stethos_session", "description": "set by api/login"},
    "basic": {"type": "http", "scheme": "basic", "description": "for metrics: any user name, a password of the page"},
}


def _schemas() -> Json:
    given: list[type[BaseModel]] = [Login, *(MODELS[name] for name in COMMANDS if name in MODELS)]
    sides: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(one, "serialization") for one in SENT]
    sides += [(one, "validation") for one in given]
    _, found = models_json_schema(sides, by_alias=True, ref_template="#/components/schemas/{model}")
    schemas: Json = found["$defs"]
    more = {"acknowledged_at": _or_null(MOMENT), "started_at": MOMENT, "has_clip": {"type": "boolean"}}
    event_extra = _object(**more, has_picture={"type": "boolean"})
    part = _object(t=MOMENT, ratio_max=NUMBER, state=_or_null(TEXT))
    spread = _or_null(_object(min=NUMBER, mean=NUMBER, max=NUMBER))
    point = _object(t=MOMENT, n={"type": "integer"}, ratio=spread, rms_dbfs=spread, states=_or_null({"type": "object"}))
    listener = _or_null(_object(machine=TEXT, by=TEXT, since=MOMENT))
    schemas |= {
        "Event": {"allOf": [_ref("EventMessage"), event_extra]},
        "Machine": _object(
            id=TEXT,
            name=TEXT,
            state=_or_null(_ref("StateMessage")),
            info={"type": "object", "description": "`machine` of docs/control.md"},
            event=_or_null(_ref("Event")),
            strip={**_list(part), "description": "the last 24 hours in quarters of an hour"},
        ),
        "History": _object(machine=TEXT, step_s={"type": "number"}, points=_list(point)),
        "Node": _object(
            node=TEXT,
            info=_ref("InfoMessage"),
            health=_ref("HealthMessage"),
            mqtt=_or_null({"type": "object"}),
            microphones=_list({"type": "object"}),
            listener=listener,
        ),
        "Session": _object(
            role={"enum": ["admin", "viewer", None]},
            needs_password={"type": "boolean"},
            name=TEXT,
            version=_or_null(TEXT),
            node=_or_null(TEXT),
            fleet={"type": "boolean"},
        ),
        "Problem": _object(type=TEXT, title=TEXT, status={"type": "integer"}, detail=TEXT)
        | {"description": "RFC 9457; `field` and `allowed` name the wrong value and what it may be"},
    }
    return schemas


def _get(summary: str, schema: Json, *parameters: Json, open_to_all: bool = False) -> Json:
    return _operation(summary, "application/json", schema, parameters, open_to_all=open_to_all)


def _file(summary: str, media_type: str, *parameters: Json) -> Json:
    return _operation(summary, media_type, {}, parameters)


def _post(summary: str, model: str | None, schema: Json, *parameters: Json, open_to_all: bool = False) -> Json:
    operation = _operation(summary, "application/json", schema, (*parameters, HEADER), open_to_all=open_to_all)
    content = {"application/json": {"schema": {"type": "object"} if model is None else _ref(model)}}
    return operation | {"requestBody": {"required": model == "Login", "content": content}}


def _operation(summary: str, media_type: str, schema: Json, parameters: tuple[Json, ...], *, open_to_all: bool = False) -> Json:
    problem = {"description": "A problem", "content": {"application/problem+json": {"schema": _ref("Problem")}}}
    answer = {"description": summary.rstrip("."), "content": {media_type: {"schema": schema}}}
    operation: Json = {"summary": summary.rstrip("."), "responses": {"200": answer, "default": problem}}
    if parameters:
        operation["parameters"] = list(parameters)
    if open_to_all:
        operation["security"] = []
    return operation


def _query(model: type[BaseModel]) -> list[Json]:
    found = model.model_json_schema(by_alias=True)["properties"]
    return [
        {"name": name, "in": "query", "schema": {key: value for key, value in one.items() if key not in ("title", "description")}}
        | ({"description": one["description"]} if "description" in one else {})
        for name, one in found.items()
    ]


def _stream_parameters() -> list[Json]:
    machine = {"name": "machine", "in": "query", "schema": TEXT, "description": "also the frames of this machine"}
    last = {"name": "last", "in": "query", "schema": TEXT, "description": "as Last-Event-ID"}
    return [machine, last]


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
