"""A recipe: everything that turns recordings into a bundle, as one validated YAML file."""

import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.bundle.manifest import one_line
from monitor.core.errors import ConfigError
from monitor.core.frontend import FrontEndSpec
from monitor.core.windows import WindowSpec

RECIPES = Path(__file__).parent / "recipes"
TICK_FRAMES = 32
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkPart(_Part):
    """A dense autoencoder between input and output of the window's size."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1)]
    activation: Literal["relu"]
    batch_norm: bool
    scaling: Literal["none", "standard"]


class TrainingPart(_Part):
    """How the network is trained."""

    loss: Literal["mse", "mae"]
    learning_rate: Positive
    batch_size: Count
    epochs: Count
    held_out: Annotated[float, Field(gt=0, lt=1)]


class CalibrationPart(_Part):
    """How the threshold is set."""

    k: Positive


class Recipe(_Part):
    """A whole recipe. Seconds here become ticks in the manifest."""

    description: str
    front_end: FrontEndSpec
    window: WindowSpec
    segment_s: Positive
    network: NetworkPart
    training: TrainingPart
    calibration: CalibrationPart

    @property
    def segment_ticks(self) -> int:
        """Ticks in a segment, at least one."""
        tick_s = TICK_FRAMES * self.front_end.hop_length / self.front_end.sample_rate_hz
        return max(1, round(self.segment_s / tick_s))


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or one's own by path; ConfigError says which key is wrong."""
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return Recipe.model_validate_json(json.dumps(content, default=str))  # as strict as a manifest
    except OSError as error:
        shipped = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise ConfigError(f"recipe must be one of {shipped}, or a readable file, got {name!r}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
