"""Types shared by the sections of the configuration."""

import os
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from monitor.shipped import shipped

MAX_SNOOZE_S = 86_400
DESCRIBED = "GENERATE_DOCUMENTS" in os.environ  # set by scripts/generate: reading all docstrings takes a fifth of a start

Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$"),
    Field(json_schema_extra={"patternErrorMessage": "must consist of a-z, 0-9, _ and -, at most 64"}),
]

OneLine = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$"),
    Field(json_schema_extra={"patternErrorMessage": "must be one line of text, at most 200 characters"}),
]


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    if path == Path():
        raise ValueError("must be a path, got ''")
    folder: Path = (info.context or {}).get("folder", Path())
    try:
        return folder / path.expanduser()
    except RuntimeError:
        raise ValueError(f"must begin with the home of an existing user, got {path}") from None


def _bundle(path: Path, info: ValidationInfo) -> Path:
    beside = _beside_the_file(path, info)
    is_ours = path.parts[0] == "models" and _is_missing(beside) and os.access(shipped(path), os.F_OK)
    return shipped(path) if is_ours else beside


def _is_missing(path: Path) -> bool:
    """Whether there is nothing. A path that cannot be looked up, such as in a folder of another user, is not missing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


# A relative path is resolved from the folder of the configuration file.
ConfigPath = Annotated[Path, AfterValidator(_beside_the_file)]
# The same; models/NAME is the bundle of that name that comes with the program, unless there is one beside the file.
BundlePath = Annotated[Path, AfterValidator(_bundle)]


def _may_be_null(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


class Section(BaseModel):
    """Keys that belong together; unknown ones are errors. Editors show the string below a field as its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=DESCRIBED)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, settings: object) -> object:
        """A section in which every key is commented out counts as an empty section."""
        if not isinstance(settings, dict):
            return settings
        fields = cls.model_fields.items()
        sections = {key for key, field in fields if isinstance(field.default, Section | dict) and not _may_be_null(field)}
        return {key: {} if value is None and key in sections else value for key, value in settings.items()}
