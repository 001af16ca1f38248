"""The bundles in use, and the settings that the service requires."""

from pathlib import Path

from monitor.bundle import Bundle
from monitor.bundle.trial import load_after_trial
from monitor.config import Config, IdleConfig, MachineConfig, MqttConfig
from monitor.daemon.bundles.adaptations import in_use
from monitor.errors import ConfigError, StethosError
from monitor.files import readable_by_others
from monitor.monitor import idle_level_dbfs
from monitor.mqtt.messages import MachineInfo

TRIED = "tried-models"
SECRETS = Path("/etc/stethos")  # from which the unit passes credentials to the service


def load_bundles(config: Config, *, broken: dict[str, str]) -> dict[str, Bundle]:
    """The bundle of every enabled machine, or the one adapted from it. `broken` collects why others cannot be used.

    ConfigError if no bundle can be used.
    """
    bundles: dict[str, Bundle] = {}
    checked: dict[Path, Bundle] = {}  # machines may share a bundle, and checking one takes a tenth of a second
    tried = config.state_dir / TRIED
    for name, settings in config.machines.items():
        if settings.enabled:
            try:
                checked[settings.bundle] = checked.get(settings.bundle) or load_after_trial(settings.bundle, tried)
            except StethosError as error:
                broken[name] = f"machines.{name}.bundle: {error}"
                continue
            bundles[name] = in_use(config.state_dir, name, checked[settings.bundle], tried=tried)
            if (problem := idle_problem(name, settings.idle, bundles[name])) is not None:
                raise ConfigError(problem)
    if broken and not bundles:
        raise ConfigError(next(iter(broken.values())))
    return bundles


def machine_info(settings: MachineConfig, bundle: Bundle | None) -> MachineInfo:
    """The entry of a machine in `info`."""
    adapted = None if bundle is None else bundle.manifest.provenance.adapted
    return MachineInfo(
        name=settings.name,
        microphone=settings.microphone,
        bundle=None if bundle is None else bundle.id,
        adapted=None if adapted is None else adapted.by,
    )


def service_problems(config: Config) -> list[str]:
    """Missing settings that the service requires, although a replay does not."""
    problems = []
    if not config.machines:
        problems.append("no machine is configured; run: sudo monitor setup")
    if "node" not in config.model_fields_set:
        problems.append(f"node must be set ({config.node} is a default): this computer's name in topics and events")
    return problems


def exposed_files(config: Config) -> list[str]:
    """A warning for each secret and for the state directory if other users can read it."""
    mqtt = config.mqtt or MqttConfig()
    secrets = {
        "mqtt.password_file": mqtt.password_file,
        "mqtt.password_credential": None if mqtt.password_credential is None else SECRETS / mqtt.password_credential,
        "mqtt.tls.key": None if mqtt.tls is None else mqtt.tls.key,
    }
    for name, target in config.notify.items():
        credential = target.url_credential
        secrets[f"notify.{name}.url_file"] = target.url_file
        secrets[f"notify.{name}.url_credential"] = None if credential is None else SECRETS / credential
    named = {key: path for key, path in secrets.items() if path is not None} | {"state_dir": config.state_dir}
    return [
        f"{key}: other users can read {path}; run: chmod o-rwx {path}" for key, path in named.items() if readable_by_others(path)
    ]


def idle_problem(name: str, idle: IdleConfig, bundle: Bundle) -> str | None:
    """The problem if silence is an anomaly but no level is known below which the machine is silent; else None."""
    if idle.means != "anomaly" or bundle.is_base or idle_level_dbfs(bundle, idle) is not None:
        return None
    why = "the bundle has learned none" if idle.below_dbfs == "learned" else "got null"
    return f"machines.{name}.idle.below_dbfs must be a level in dBFS where idle means anomaly: {why}"
