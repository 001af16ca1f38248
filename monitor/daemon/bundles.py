"""The bundles in use: read from where the configuration says, kept in the state directory for the day they are gone."""

import logging
import shutil
from pathlib import Path

from monitor.bundle import Bundle, load_bundle
from monitor.config import Config, IdleConfig, MachineConfig
from monitor.daemon.adaptations import in_use
from monitor.daemon.assembly import idle_level_dbfs
from monitor.errors import ConfigError, StethosError
from monitor.mqtt.messages import MachineInfo

log = logging.getLogger(__name__)
FOLDER = "bundles"  # of the state directory: one bundle a machine, the last that was accepted


def load_bundles(config: Config, *, fall_back: bool = True) -> dict[str, Bundle]:
    """The bundle of every enabled machine, the one adapted to it where there is one, and a copy of each configured one.

    Where one cannot be used and `fall_back`, the copy of the last that could be takes its place: a machine is better
    listened to with yesterday's bundle than not at all. Else ConfigError names the first that cannot be used.
    """
    loaded: dict[str, Bundle] = {}
    checked: dict[Path, Bundle] = {}  # machines may share one; to check it takes a tenth of a second
    for name, settings in config.machines.items():
        if settings.enabled:
            kept = config.state_dir / FOLDER / name
            try:
                loaded[name] = checked.get(settings.bundle) or load_bundle(settings.bundle)
                checked[settings.bundle] = loaded[name]
                _keep(settings.bundle, loaded[name], kept)
            except StethosError as error:
                loaded[name] = _last_one(name, kept if fall_back else None, error)
            loaded[name] = in_use(config.state_dir, name, loaded[name])
            if (wrong := idle_problem(name, settings.idle, loaded[name])) is not None:
                raise ConfigError(wrong)
    return loaded


def machine_info(settings: MachineConfig, bundle: Bundle | None) -> MachineInfo:
    """What `info` says of a machine."""
    adapted = None if bundle is None else bundle.manifest.provenance.adapted
    return MachineInfo(
        name=settings.name,
        microphone=settings.microphone,
        bundle=None if bundle is None else bundle.id,
        adapted=None if adapted is None else adapted.by,
    )


def service_problems(config: Config) -> list[str]:
    """What a recording may leave unset and the service may not."""
    problems = []
    if not config.machines:
        problems.append("machines must name at least one, got none: there is nothing to listen to")
    if "node" not in config.model_fields_set:
        problems.append("node must be set: this computer's name in topics and events")
    return problems


def idle_problem(name: str, idle: IdleConfig, bundle: Bundle) -> str | None:
    """A machine whose silence is an anomaly needs a level that it can fall short of."""
    if idle.means != "anomaly" or idle_level_dbfs(bundle, idle) is not None:
        return None
    why = "the bundle has learned none" if idle.below_dbfs == "learned" else "got null"
    return f"machines.{name}.idle.below_dbfs must be a level in dBFS where idle means anomaly: {why}"


def _last_one(name: str, kept: Path | None, error: StethosError) -> Bundle:
    """The bundle that was kept, said loudly; what is wrong with the configured one where there is none."""
    refusal = ConfigError(f"machines.{name}.bundle: {error}")
    if kept is None:
        raise refusal from error
    try:
        bundle = load_bundle(kept)
    except StethosError:
        raise refusal from error
    log.error("%s; listening with the last one that was accepted, %s", refusal, bundle.id)
    return bundle


def _keep(folder: Path, bundle: Bundle, kept: Path) -> None:
    """Copy a bundle beside the one kept so far, then put it in its place; nothing is written where it is kept already."""
    manifest = bundle.manifest
    statistics = manifest.detector.statistics
    files = ["manifest.json", manifest.model.file, *([] if statistics is None else [statistics.file])]
    if all(_same(folder / file, kept / file) for file in files):
        return
    new, old = kept.with_name(f"{kept.name}.new"), kept.with_name(f"{kept.name}.old")
    try:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir(parents=True)
        for file in files:
            shutil.copyfile(folder / file, new / file)
        if kept.exists():
            kept.rename(old)
        new.rename(kept)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        log.warning("%s: the bundle cannot be kept: %s", kept, error.strerror)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False
