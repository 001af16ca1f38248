"""`manifest.json`: everything about a bundle that is not in the model (docs/bundle.md)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, model_validator

from monitor.errors import BundleError
from monitor.events.decision import Rule
from monitor.events.event import Severity
from monitor.files import read_regular
from monitor.scoring.front_end import FrontEndSpec
from monitor.scoring.scorer import ScorerSpec
from monitor.scoring.windows import WindowSpec

MANIFEST = "manifest.json"
MAX_BYTES = 1_000_000  # of the manifest
NUMBERS = (1e-30, 1e30)  # magnitude of numbers other than 0
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]  # without a folder
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[int, Field(ge=0)]
ComponentName = Literal["reconstruction", "spectrum", "modulation"]
TickFrames = Annotated[int, Field(ge=1, le=1024)]
MAX_TICKS = 1024  # per segment
Frames = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRef(_Part):
    """A file of the bundle and its SHA-256."""

    file: FileName
    sha256: Sha256


class ModelPart(FileRef):
    """The network, and the frames of a window that are its input and its target."""

    layout: Literal["flat", "image"]
    input_frames: Frames
    target_frames: Frames


class ModulationPart(_Part):
    """Groups of neighbouring bands, and the lags in frames at which they are compared."""

    n_groups: Annotated[int, Field(ge=1)]
    lags_frames: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class DetectorSpec(_Part):
    """The components and their parameters.

    The score is the number of a single component, or the mean of the ratios of several.
    """

    components: tuple[ComponentName, ...]
    fusion: Literal["none", "mean"] | None = Field(default=None, exclude=True)  # in bundles of version 0.1, ignored
    modulation: ModulationPart | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "DetectorSpec":
        if not self.components or len(set(self.components)) != len(self.components):
            raise ValueError(f"components must be one or more, each once, got {list(self.components)}")
        if (self.modulation is not None) != ("modulation" in self.components):
            raise ValueError("modulation must be given if and only if components contain modulation")
        return self


class DetectorPart(DetectorSpec):
    """The detector with its error function and its statistics, which an imported model may lack."""

    error: Literal["mse", "mae"]
    statistics: FileRef | None = None

    @model_validator(mode="after")
    def _has_statistics(self) -> "DetectorPart":
        if self.statistics is None and self.components != ("reconstruction",):
            raise ValueError(f"statistics must be there for components {', '.join(self.components)}")
        return self


class CalibrationPart(_Part):
    """The thresholds and the normal sound from which they were computed.

    `threshold` and `file_threshold` are warning levels. Without an alarm threshold there is only one level, and everything
    above it is an alarm.
    """

    method: Literal["default", "mean+k*sigma", "percentile", "conformal", "gamma", "pot", "given"]
    parameters: Mapping[str, Positive] = {}
    threshold: Positive
    file_threshold: Positive
    alarm_threshold: Positive | None = None  # of a segment, at least `threshold`
    file_alarm_threshold: Positive | None = None  # of a whole file, at least `file_threshold`
    tick_threshold: Positive | None = None  # of a single tick, for the onset of an anomaly; default: `threshold`
    fast_threshold: Positive | None = None  # dB over the statistics' ceiling; None: no fast path
    n_segments: NotNegative
    n_units: NotNegative = 0  # segments that share no sound
    n_blocks: NotNegative = 0  # of time, nearly independent
    n_recordings: NotNegative
    hours: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    events: NotNegative = 0  # in the replay of the sound from which the threshold was computed
    promised_per_week: Positive | None = None  # target rate of false events
    promised_alarms_per_week: Positive | None = None  # target rate of those that are alarms
    supported_per_week: Positive | None = None  # the lowest rate that this sound supports without extrapolation
    bound_95_per_week: Positive | None = None  # upper 95 % confidence bound from that replay
    idle_below_dbfs: Finite | None = None  # level below which the machine counts as off, learned from its normal sound
    score_mean: Finite | None = None  # of the scores of normal segments; the origin of drift
    score_std: Positive | None = None  # of the scores of normal segments; the unit of drift
    score_spread: Positive | None = None  # standard deviation of normal recordings' log scores, as assumed by the thresholds
    drift: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # expected rise of the scores of later sound, in log units
    statement: str = ""  # summary in plain words

    @model_validator(mode="after")
    def _rises(self) -> "CalibrationPart":
        for name in ("threshold", "file_threshold"):
            above = name.replace("threshold", "alarm_threshold")
            warning, alarm = getattr(self, name), getattr(self, above)
            if alarm is not None and alarm < warning:
                raise ValueError(f"{above} must be at least {name} ({warning:g}), got {alarm:g}")
        return self

    def file_severity(self, score: float) -> Severity | None:
        """The severity of a whole file with this score; None if it is normal."""
        if score < self.file_threshold:
            return None
        return "alarm" if score >= (self.file_alarm_threshold or self.file_threshold) else "warning"


class GoldenPart(_Part):
    """The score of the golden signal at the time of export, computed with the exported model."""

    score: Finite


class Adapted(_Part):
    """The command that adapted the bundle on the device, and its base bundle."""

    by: Literal["learn", "calibrate"]
    of: str  # name and hash of the base bundle


class Provenance(_Part):
    """The origin of the bundle, for reports and bug reports."""

    recipe: str
    dataset_sha256: Sha256 | None = None
    seed: int | None = None
    versions: Mapping[str, str] = {}
    metrics: Mapping[str, JsonValue] = {}
    adapted: Adapted | None = None  # on the device


def check_tick(tick_frames: int, window: WindowSpec, detector: DetectorSpec) -> None:
    """Check that the windows and lags of a manifest or recipe fit into a tick. ValueError names the key that does not."""
    if tick_frames % window.hop_frames:
        raise ValueError(f"window.hop_frames must divide tick_frames ({tick_frames}), got {window.hop_frames}")
    lag = max(detector.modulation.lags_frames) if detector.modulation is not None else 0
    if lag >= tick_frames:
        raise ValueError(f"detector.modulation.lags_frames must be below tick_frames ({tick_frames}), got {lag}")


class Manifest(_Part):
    """The whole manifest. Unknown keys are errors."""

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    created: AwareDatetime
    base: Literal[True] | None = None  # belongs to no machine: its network is kept, but it judges nothing
    front_end: Annotated[FrontEndSpec, Field(discriminator="kind")]
    window: WindowSpec
    tick_frames: TickFrames
    segment_ticks: Annotated[int, Field(ge=1, le=MAX_TICKS)]
    model: ModelPart
    detector: DetectorPart
    calibration: CalibrationPart
    rule: Rule
    golden: GoldenPart
    provenance: Provenance

    @model_validator(mode="after")
    def _fits_together(self) -> "Manifest":
        last = self.window.n_frames - 1
        for key in ("input_frames", "target_frames"):
            frames: tuple[int, ...] = getattr(self.model, key)
            if max(frames) > last:
                raise ValueError(f"model.{key} must be in 0..{last}, got {max(frames)}")
            if list(frames) != sorted(set(frames)):
                raise ValueError(f"model.{key} must rise, got {list(frames)}")
        check_tick(self.tick_frames, self.window, self.detector)
        if self.calibration.fast_threshold is not None and self.detector.statistics is None:
            raise ValueError("detector.statistics must be there for calibration.fast_threshold")
        if self.rule.raise_k <= self.segment_ticks:
            raise ValueError(
                f"rule.raise_k must be above segment_ticks ({self.segment_ticks}), else one bang raises, got {self.rule.raise_k}"
            )
        return self

    @property
    def scorer_spec(self) -> ScorerSpec:
        """The parameters of the scorer."""
        return ScorerSpec(
            front_end=self.front_end,
            window=self.window,
            tick_frames=self.tick_frames,
            segment_ticks=self.segment_ticks,
            input_frames=self.model.input_frames,
            target_frames=self.model.target_frames,
        )


def read_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest of a bundle. BundleError names the wrong key in one line."""
    return parse_manifest(folder, read_content(folder))


def read_content(folder: Path) -> bytes:
    """The content of a bundle's manifest file. BundleError if it cannot be read."""
    try:
        return read_regular(folder / MANIFEST, max_bytes=MAX_BYTES, within=folder)
    except OSError as error:
        raise BundleError(f"{folder / MANIFEST}: cannot be read: {error.strerror}") from error


def parse_manifest(folder: Path, content: bytes) -> Manifest:
    """Validate the content of the manifest of a bundle. BundleError names the wrong key in one line."""
    path = folder / MANIFEST
    try:
        problem = _out_of_range(json.loads(content.decode(), parse_int=lambda text: int(text) if len(text) < 20 else float(text)))
        if problem is not None:
            raise BundleError(f"{path}: {problem}")
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{path}: {one_line(error)}") from error
    except RecursionError as error:
        raise BundleError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path}: is not JSON: {_cut(str(error))}") from error


def _out_of_range(value: Any, *key: str) -> str | None:
    """The first number or text of a JSON document that no bundle needs: numbers whose arithmetic fails, control characters."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return next((problem for name, part in items if (problem := _out_of_range(part, *key, str(name)))), None)
    where = _cut(".".join(key))
    if isinstance(value, str) and not value.isprintable():
        return f"{where}: must be printable text, got {_cut(repr(value))}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value != 0
    if is_number and not NUMBERS[0] <= abs(value) <= NUMBERS[1]:
        return f"{where}: must be 0 or of a magnitude from {NUMBERS[0]:g} to {NUMBERS[1]:g}, got {value}"
    return None


def one_line(error: ValidationError) -> str:
    """The first problem of a pydantic error, with its key and value, and the number of other problems."""
    problems = error.errors(include_url=False)
    # Problems of this type are a consequence of others.
    first, *rest = [one for one in problems if one["type"] != "default_factory_not_called"] or problems
    key = _cut(".".join(str(part) for part in first["loc"]))
    message = _cut(first["msg"].removeprefix("Value error, "), 300)
    shown = repr(first["input"])
    got = f", got {shown}" if first["type"] not in ("value_error", "missing", "json_invalid") and len(shown) < 80 else ""
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{key}: {message}{got}{more}" if key else f"{message}{got}{more}"


def _cut(text: str, n: int = 100) -> str:
    """Text for an error message: printable, in one line, of limited length."""
    printable = text if text.isprintable() else ascii(text)[1:-1]
    return printable if len(printable) <= n else f"{printable[:n]}…"
