"""Every topic and its payload as JSON Schema; `scripts/generate` writes it to docs/mqtt.schema.json."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from monitor.mqtt.messages import (
    Acknowledge,
    Calibrate,
    Command,
    CurrentMessage,
    Desired,
    Disable,
    Enable,
    EventMessage,
    FetchClip,
    HealthMessage,
    InfoMessage,
    Learn,
    LearningMessage,
    ResponseMessage,
    Snooze,
    StateMessage,
)

COMMANDS: dict[str, type[Command]] = {
    "ack": Acknowledge,
    "snooze": Snooze,
    "enable": Enable,
    "disable": Disable,
    "clip": FetchClip,
    "calibrate": Calibrate,
    "learn": Learn,
}


@dataclass(frozen=True)
class Topic:
    """A topic below `<prefix>/`, and its payload: the JSON of a model, one of a few words, any text, or a file."""

    path: str
    payload: type[BaseModel] | tuple[str, ...] | None
    qos: int = 1
    retained: bool = True
    media: str | None = None  # media type of a file


TOPICS = (
    Topic("<node>/status", ("online", "offline")),
    Topic("<node>/info", InfoMessage),
    Topic("<node>/health", HealthMessage, qos=0),
    Topic("<node>/mqtt-test", None),
    Topic("<node>/bundle/current", CurrentMessage),
    Topic("<node>/bundle/desired", Desired),
    Topic("<node>/<machine>/availability", ("online", "offline")),
    Topic("<node>/<machine>/state", StateMessage),
    Topic("<node>/<machine>/anomaly", ("ON", "OFF", "None")),
    Topic("<node>/<machine>/learning", LearningMessage),
    Topic("<node>/<machine>/event", EventMessage, retained=False),
    Topic("<node>/<machine>/snapshot", None, media="image/png"),
    Topic("<node>/<machine>/clip/<id>", None, retained=False, media="audio/flac"),
    *(Topic(f"<node>/<machine>/set/{name}", model, retained=False) for name, model in COMMANDS.items()),
    Topic("<node>/<machine>/response", ResponseMessage, retained=False),
)


def schema() -> dict[str, Any]:
    """The JSON Schema of every payload under `$defs`, and the payload of every topic under `topics`."""
    models = [topic.payload for topic in TOPICS if isinstance(topic.payload, type)]
    payloads, definitions = models_json_schema([(model, _side(model)) for model in models], by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "MQTT messages of Stethos",
        "topics": {
            f"<prefix>/{topic.path}": {
                "qos": topic.qos,
                "retained": topic.retained,
                "payload": payloads[topic.payload, _side(topic.payload)] if isinstance(topic.payload, type) else _text(topic),
            }
            for topic in TOPICS
        },
        "$defs": definitions["$defs"],
    }


def _text(topic: Topic) -> dict[str, Any]:
    if isinstance(topic.payload, tuple):
        return {"enum": list(topic.payload)}
    return {"type": "string"} if topic.media is None else {"contentMediaType": topic.media}


def _side(model: type[BaseModel]) -> Literal["validation", "serialization"]:
    """A message that we publish contains every key. A command may omit keys that have a default."""
    return "validation" if issubclass(model, Command) else "serialization"
