"""A recipe: everything that turns recordings into a bundle, as one validated YAML file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitor.arrays import F64
from monitor.bundle.detector import make_features
from monitor.bundle.manifest import MAX_TICKS, DetectorSpec, TickFrames, check_tick, one_line
from monitor.config.yaml_file import read_mapping
from monitor.errors import ConfigError
from monitor.events.decision import Rule
from monitor.scoring.components import least_spread_db
from monitor.scoring.fast_path import FAST_TICK_S
from monitor.scoring.front_end import FrontEndSpec, LogMelSpec, LogSpectrumSpec
from monitor.scoring.scorer import ScorerSpec
from monitor.scoring.windows import WindowSpec
from train.recipes.method import Method, MethodName

RECIPES = Path(__file__).parent
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decibels = Annotated[float, Field(ge=0, le=100)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DenseNetwork(_Part):
    """A dense autoencoder on flat windows."""

    kind: Literal["dense"]
    hidden: Counts
    batch_norm: bool
    output: Literal["linear", "sigmoid"]
    scaling: Literal["none", "standard", "minmax"]
    predicts: Literal["window", "centre"]  # all frames from all frames, or the centre frame from the others

    @model_validator(mode="after")
    def _sigmoid_needs_minmax(self) -> "DenseNetwork":
        if (self.output == "sigmoid") != (self.scaling == "minmax"):
            raise ValueError(f"output sigmoid and scaling minmax belong together, got {self.output} and {self.scaling}")
        return self


class ConvNetwork(_Part):
    """A convolutional autoencoder on patches (n_frames, n_bands, 1): each layer halves both sides, then all double again."""

    kind: Literal["conv"]
    filters: Counts
    kernel: Count
    scaling: Literal["none", "standard"]


class EarlyStopping(_Part):
    """Stop when the validation loss has not improved for so many epochs, and keep the best weights."""

    patience: Count


class TrainingPart(_Part):
    """How the network is trained."""

    loss: Literal["mse", "mae"]
    learning_rate: Positive
    batch_size: Count
    epochs: Count
    # In an epoch, other ones in each; None: all. Also of validation sound, always the same ones, evenly spread.
    max_windows: Count | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0  # unless the command specifies one
    split_by: Literal["recording", "file"] = "recording"
    validate_on: Literal["held_out", "test"] = "held_out"
    early_stopping: EarlyStopping | None = None


class CalibrationPart(_Part):
    """How the threshold is set."""

    method: MethodName = "default"
    k: Positive
    part: Literal["held_out", "training", "cross_fitted"] = "held_out"
    fast_path: bool = False

    @model_validator(mode="after")
    def _method_takes_it(self) -> "CalibrationPart":
        Method(name=self.method, k=self.k)
        return self


TICK_S = 1.024  # approximate length of a tick, where a recipe does not specify it
MAX_RATE_HZ = 48_000
_FAST = sorted(2**a * 3**b * 5**c for a in range(1, 21) for b in range(5) for c in range(4))  # lengths with a fast FFT
PLAIN = DetectorSpec(components=("reconstruction",))


def _about_a_second(recipe: dict[str, Any]) -> int:
    """Frames in a tick of about a second, a multiple of the window's hop; any number where there is no front end."""
    front_end: FrontEndSpec | None = recipe.get("front_end")
    window: WindowSpec | None = recipe.get("window")
    if front_end is None or window is None:
        return 1
    n_frames = TICK_S * front_end.sample_rate_hz / front_end.hop_length
    return window.hop_frames * max(1, round(n_frames / window.hop_frames))


class Recipe(_Part):
    """A whole recipe. Seconds here become ticks in the manifest.

    Where `rate` is `recordings`, the front end is specified for one rate, and `at` converts it to another.
    """

    description: str
    rate: Literal["fixed", "recordings"] = "fixed"
    front_end: Annotated[FrontEndSpec, Field(discriminator="kind")]
    window: WindowSpec
    tick_frames: TickFrames = Field(default_factory=_about_a_second)
    segment_s: Positive
    network: Annotated[DenseNetwork | ConvNetwork, Field(discriminator="kind")]
    training: TrainingPart
    gain_db: Annotated[float, Field(ge=0, le=100)] = (
        0.0  # standard deviation of the level in use, in addition to that of the recordings
    )
    detector: DetectorSpec = PLAIN
    max_states: Annotated[int, Field(ge=1, le=4)] = 1  # normal states per feature
    calibration: CalibrationPart
    leaks: tuple[str, ...] = ()  # data leaks of a published procedure; the report marks each

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        check_tick(self.tick_frames, self.window, self.detector)
        if self.detector != PLAIN and self.calibration.part != "cross_fitted":
            components = ", ".join(self.detector.components)
            raise ValueError(f"calibration.part must be cross_fitted for components {components}, got {self.calibration.part}")
        try:
            make_features(self.detector, n_bands=self.front_end.n_bands)
        except ConfigError as error:
            raise ValueError(f"detector.{error}") from error
        if self.segment_ticks > MAX_TICKS:
            longest = f"{MAX_TICKS} ticks, {MAX_TICKS * self.tick_s:g} s"
            raise ValueError(f"segment_s must be at most {longest}, got {self.segment_s:g}")
        shortest_s, longest_s = FAST_TICK_S
        if self.calibration.fast_path and not shortest_s <= self.tick_s <= longest_s:
            raise ValueError(f"calibration.fast_path needs ticks of {shortest_s:g} to {longest_s:g} s, got {self.tick_s:.3g} s")
        if isinstance(self.network, ConvNetwork):
            halved = 2 ** len(self.network.filters)
            for name, side in (("window.n_frames", self.window.n_frames), ("front_end's bands", self.front_end.n_bands)):
                if side % halved:
                    raise ValueError(f"{name} must be a multiple of {halved} for {len(self.network.filters)} filters, got {side}")
        elif self.network.predicts == "centre" and (self.window.n_frames % 2 == 0 or self.window.n_frames == 1):
            raise ValueError(f"window.n_frames must be odd to have a centre, and at least 3, got {self.window.n_frames}")
        return self

    def at(self, rate_hz: int) -> "Recipe":
        """The recipe for recordings of this rate, at most 48 kHz; the same one where its rate is fixed.

        Frames, hops and so the lags between frames last as long as at the rate that the recipe is written for; a frame is
        rounded to a length with a fast FFT. Bands end where they did, or at half the rate. ConfigError where the rate is
        too low for that many bands.
        """
        rate_hz, written = min(rate_hz, MAX_RATE_HZ), self.front_end
        if self.rate == "fixed" or rate_hz == written.sample_rate_hz:
            return self
        times = rate_hz / written.sample_rate_hz
        step = 2 * written.n_bins if isinstance(written, LogSpectrumSpec) else 1  # bins must divide into whole bands
        n_fft = min((n for n in _FAST if not n % step), key=lambda n: abs(n - times * written.n_fft), default=0)
        hop_length = round(times * written.hop_length)
        try:
            if isinstance(written, LogMelSpec):
                written = replace(written, fmax_hz=min(written.fmax_hz, rate_hz / 2))
            front_end = replace(written, sample_rate_hz=rate_hz, n_fft=n_fft, hop_length=hop_length)
            given = {name: getattr(self, name) for name in self.model_fields_set}
            return Recipe.model_validate(given | {"front_end": front_end})
        except (ConfigError, ValidationError) as error:
            reason = one_line(error) if isinstance(error, ValidationError) else error
            raise ConfigError(f"recordings at {rate_hz} Hz do not suit the recipe: {reason}") from error

    @property
    def shortest_s(self) -> float:
        """The shortest recording that can be scored, s: one window, and two frames to compare."""
        spec = self.front_end
        return (spec.n_fft + (max(self.window.n_frames, 2) - 1) * spec.hop_length) / spec.sample_rate_hz

    @property
    def noise_db(self) -> F64:
        """The minimum spread (n_bands,), dB, of each band."""
        return least_spread_db(self.front_end.band_limits_hz(), sample_rate_hz=self.front_end.sample_rate_hz)

    @property
    def tick_s(self) -> float:
        """Length of a tick, s."""
        return self.tick_frames * self.front_end.hop_length / self.front_end.sample_rate_hz

    @property
    def segment_ticks(self) -> int:
        """Ticks in a segment, at least one."""
        return max(1, round(self.segment_s / self.tick_s))

    def method(self, *, name: MethodName | None = None, k: float | None = None) -> Method:
        """The threshold method: the recipe's, or by name; `k` alone means mean + k sigma."""
        if name is None:
            name = self.calibration.method if k is None else "mean+k*sigma"
        return Method(name=name, k=k or self.calibration.k)

    def rule(self, *, clear_ratio: float) -> Rule:
        """The default rule, 12 of 20, for segments of any number of ticks: one bang must not raise."""
        ticks = self.segment_ticks
        return Rule(raise_k=ticks + 2, raise_n=max(2 * ticks, ticks + 2), clear_ratio=clear_ratio, clear_m=2 * ticks)

    @property
    def layout(self) -> Literal["flat", "image"]:
        """The layout of the network's input."""
        return "image" if isinstance(self.network, ConvNetwork) else "flat"

    @property
    def scorer_spec(self) -> ScorerSpec:
        """The scorer's parameters under this recipe."""
        frames = tuple(range(self.window.n_frames))
        centre = (self.window.n_frames // 2,)
        idnn = isinstance(self.network, DenseNetwork) and self.network.predicts == "centre"
        return ScorerSpec(
            front_end=self.front_end,
            window=self.window,
            tick_frames=self.tick_frames,
            segment_ticks=self.segment_ticks,
            input_frames=tuple(frame for frame in frames if frame not in centre) if idnn else frames,
            target_frames=centre if idnn else frames,
        )


def load_recipe(name: str, *, as_published: bool = False) -> Recipe:
    """A shipped recipe by name, or a recipe file by path; ConfigError names the key that is wrong.

    `as_published` applies the recipe's section of that name: the published procedure, leaks included.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    content = _read(path, name)
    published = content.pop("as_published", None)
    recipe = _validated(content, where=f"{path}")
    if published is None:
        if as_published:
            raise ConfigError(f"{path}: has no section as_published")
        return recipe
    if not isinstance(published, dict):
        raise ConfigError(f"{path}: as_published must be a mapping of keys, got a {type(published).__name__}")
    merged = _validated(_merged(content, published), where=f"{path}, as_published")  # even if it is not requested
    return merged if as_published else recipe


def _validated(content: dict[str, Any], *, where: str) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(content))  # as strict as a manifest
    except ValidationError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error


def _read(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        shipped = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise ConfigError(f"recipe must be one of {shipped}, or a readable file, got {name!r}")
    content = read_mapping(path)
    try:
        plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    except (
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # YAML allows keys that are not text, and values that contain themselves
        raise ConfigError(f"{path}: must consist of texts, numbers, lists and mappings: {error}") from error
    return plain


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, section by section."""
    shared = [key for key in base.keys() & over.keys() if isinstance(base[key], dict) and isinstance(over[key], dict)]
    return {**base, **over, **{key: _merged(base[key], over[key]) for key in shared}}
