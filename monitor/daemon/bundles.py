"""The bundles in use. A copy of each is kept in the state directory, in case the configured folder is lost or damaged."""

import logging
import shutil
from pathlib import Path

from monitor.bundle import Bundle, load_bundle
from monitor.config import Config, IdleConfig, MachineConfig
from monitor.daemon.adaptations import in_use
from monitor.errors import ConfigError, StethosError
from monitor.monitor import idle_level_dbfs
from monitor.mqtt.messages import MachineInfo

log = logging.getLogger(__name__)
FOLDER = "bundles"  # in the state directory: for each machine the last bundle that was accepted


def load_bundles(config: Config, *, fall_back: bool = True) -> dict[str, Bundle]:
    """The bundle of every enabled machine, or the one adapted from it, where there is one.

    When all can be used, copies are kept. Where one cannot be used, and with `fall_back`, the copy of the last one that
    could be used takes its place. Otherwise ConfigError names the first that cannot be used.
    """
    loaded: dict[str, Bundle] = {}
    checked: dict[Path, Bundle] = {}  # machines may share one, and the check takes a tenth of a second
    configured: dict[str, Bundle] = {}
    for name, settings in config.machines.items():
        if settings.enabled:
            kept = config.state_dir / FOLDER / name
            try:
                loaded[name] = checked.get(settings.bundle) or load_bundle(settings.bundle)
                checked[settings.bundle] = loaded[name]
                configured[name] = loaded[name]
            except StethosError as error:
                loaded[name] = _last_one(name, kept if fall_back else None, error)
            loaded[name] = in_use(config.state_dir, name, loaded[name])
            if (wrong := idle_problem(name, settings.idle, loaded[name])) is not None:
                raise ConfigError(wrong)
    for name, bundle in configured.items():
        _keep(config.machines[name].bundle, bundle, config.state_dir / FOLDER / name)
    return loaded


def machine_info(settings: MachineConfig, bundle: Bundle | None) -> MachineInfo:
    """A machine in `info`."""
    adapted = None if bundle is None else bundle.manifest.provenance.adapted
    return MachineInfo(
        name=settings.name,
        microphone=settings.microphone,
        bundle=None if bundle is None else bundle.id,
        adapted=None if adapted is None else adapted.by,
    )


def service_problems(config: Config) -> list[str]:
    """Settings that are missing for the service, although a replay does without them."""
    problems = []
    if not config.machines:
        problems.append("machines must name at least one, got none")
    if "node" not in config.model_fields_set:
        problems.append("node must be set: this computer's name in topics and events")
    return problems


def idle_problem(name: str, idle: IdleConfig, bundle: Bundle) -> str | None:
    """A machine whose silence is an anomaly needs a level below which it is silent."""
    if idle.means != "anomaly" or idle_level_dbfs(bundle, idle) is not None:
        return None
    why = "the bundle has learned none" if idle.below_dbfs == "learned" else "got null"
    return f"machines.{name}.idle.below_dbfs must be a level in dBFS where idle means anomaly: {why}"


def _last_one(name: str, kept: Path | None, error: StethosError) -> Bundle:
    """The copy of the last bundle; ConfigError with the problem of the configured one where there is no copy."""
    refusal = ConfigError(f"machines.{name}.bundle: {error}")
    if kept is None:
        raise refusal from error
    try:
        bundle = load_bundle(kept)
    except StethosError:
        raise refusal from error
    log.error("%s; using the last one that was accepted, %s", refusal, bundle.id)
    return bundle


def _keep(folder: Path, bundle: Bundle, kept: Path) -> None:
    """Replace the copy of a bundle, unless it is up to date."""
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
        log.warning("%s: cannot write the copy of the bundle: %s", kept, error.strerror)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False
