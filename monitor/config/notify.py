"""The section `notify`: messages to people through Apprise, and when they are sent."""

import re
from datetime import time
from string import Formatter
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from monitor.config.fields import ConfigPath, Section, Slug
from monitor.config.mqtt import Credential
from monitor.config.secrets import credential_path, read_secret
from monitor.errors import SinkError
from monitor.events.event import Severity

MAX_URL = 2_000
PLAIN_SCHEMES = {"json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys", "mailto", "mailtos", "syslog"}
_PLAIN_OPTIONS = {
    "from",
    "to",
    "cc",
    "bcc",
    "name",
    "smtp",
    "mode",
    "format",
    "verify",
    "method",
    "priority",
    "tags",
    "rto",
    "cto",
}
TEMPLATE_FIELDS = ("headline", "name", "machine", "node", "severity", "summary", "ratio", "excess", "since", "time", "event")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.")
_QUIET = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
SECRET_HINT = (
    "write it to a file and set url_file: FILE, or give the service LoadCredential=notify-url:FILE and set "
    "url_credential: notify-url"
)


def url_problem(url: str) -> str | None:
    """What is wrong with the form of an Apprise URL; never shows the URL."""
    if len(url) > MAX_URL or not url.isprintable() or not _SCHEME.match(url):
        return f"must be an Apprise URL such as mailtos://…, one line of at most {MAX_URL} characters"
    return None


def _without_secret(url: str) -> str:
    if (problem := url_problem(url)) is not None:
        raise ValueError(problem)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("must be an Apprise URL") from None
    options = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.scheme not in PLAIN_SCHEMES or "@" in parts.netloc or options - _PLAIN_OPTIONS:
        raise ValueError(f"may contain a secret: {SECRET_HINT}")
    return url


def _known_fields(template: str) -> str:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"must be a template such as '{{name}}: {{headline}}': {error}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in TEMPLATE_FIELDS or form or conversion):
            written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ValueError(f"must use the fields {', '.join(TEMPLATE_FIELDS)} only, got {{{written[:60]}}}")
    return template


def _some_time(quiet: str) -> str:
    begin, _, end = quiet.partition("-")
    if begin == end:
        raise ValueError(f"must begin and end at different times, got {quiet}")
    return quiet


Template = Annotated[str, StringConstraints(min_length=1, max_length=2_000), AfterValidator(_known_fields)]
QuietHours = Annotated[
    str,
    StringConstraints(pattern=_QUIET),
    AfterValidator(_some_time),
    Field(json_schema_extra={"patternErrorMessage": "must be a range of local time such as 22:00-06:00"}),
]


class NotifyConfig(Section):
    """One receiver of messages. Its Apprise URL is in one of the first three keys."""

    url_credential: Credential | None = None
    """Name of a systemd credential that contains the URL, such as notify-url."""

    url_file: ConfigPath | None = None
    """File that contains only the URL."""

    url: Annotated[str, AfterValidator(_without_secret)] | None = None
    """The URL itself, if it contains no secret, such as json://127.0.0.1:8080/hook."""

    machines: Annotated[list[Slug], Field(min_length=1, max_length=1_000)] | None = None
    """The machines to report; null: all."""

    severity: Severity = "alarm"
    """Minimum severity: alarm, or warning for both."""

    quiet: QuietHours | None = None
    """Quiet hours in local time, such as 22:00-06:00. Warnings wait until they end."""

    quiet_alarms: Literal["send", "hold"] = "send"
    """Alarms during the quiet hours: send at once, or hold like warnings."""

    title: Template = "{name}: {headline}"
    """Template of the title. Fields: headline, name, machine, node, severity, summary, ratio, excess, since, time, event."""

    body: Template = "{summary}\n{excess}, since {since}.\nNode {node}, event {event}"
    """Template of the text, with the same fields."""

    picture: bool = True
    """Whether the picture of the event is attached, if the service can receive files."""

    @model_validator(mode="after")
    def _one_url(self) -> "NotifyConfig":
        given = [key for key in ("url_credential", "url_file", "url") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"one of url_credential, url_file and url must be set, got {' and '.join(given) or 'none'}")
        return self

    def read_url(self, name: str) -> str:
        """The URL. SinkError if it cannot be read or is malformed; `name` is that of this target."""
        if self.url is not None:
            return self.url
        if self.url_file is not None:
            key, path = f"notify.{name}.url_file", self.url_file
        else:
            key = f"notify.{name}.url_credential"
            path = credential_path(key, self.url_credential or "")
        url = read_secret(key, path, what="an Apprise URL").strip()
        if (problem := url_problem(url)) is not None:
            raise SinkError(f"{key}: {path} {problem}")
        return url

    def is_quiet(self, severity: Severity, now: time) -> bool:
        """Whether a message is held back at this local time."""
        if self.quiet is None or (severity == "alarm" and self.quiet_alarms == "send"):
            return False
        begin, end = (time.fromisoformat(part) for part in self.quiet.split("-"))
        return begin <= now < end if begin < end else now >= begin or now < end
