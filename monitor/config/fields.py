"""What the sections of the configuration share."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo

Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$"),
    Field(json_schema_extra={"patternErrorMessage": "must be made of a-z, 0-9, _ and -, at most 64"}),
]


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    if path == Path():
        raise ValueError("must be a path, got ''")
    folder: Path = (info.context or {}).get("folder", Path())
    try:
        return folder / path.expanduser()
    except RuntimeError:
        raise ValueError(f"must begin with the home of a user that there is, got {path}") from None


ConfigPath = Annotated[Path, AfterValidator(_beside_the_file)]  # a relative one counts from the configuration file


class Section(BaseModel):
    """Keys that belong together; unknown ones are errors. The line under a field is what editors show for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def left_out(value: object) -> object:
    """A section of which every key is commented out is an empty one."""
    return {} if value is None else value
