"""The settings: their model, and how they are read and validated."""

from monitor.config.clips import ClipsConfig
from monitor.config.fleet import FleetConfig
from monitor.config.history import HistoryConfig
from monitor.config.load import check_settings, load_config
from monitor.config.mqtt import MqttConfig, TlsConfig
from monitor.config.notify import NotifyConfig
from monitor.config.settings import AlarmConfig, Config, HomeAssistantConfig, IdleConfig, MachineConfig
from monitor.config.update import UpdateConfig
from monitor.config.web import WebConfig

__all__ = [
    "AlarmConfig",
    "ClipsConfig",
    "Config",
    "FleetConfig",
    "HistoryConfig",
    "HomeAssistantConfig",
    "IdleConfig",
    "MachineConfig",
    "MqttConfig",
    "NotifyConfig",
    "TlsConfig",
    "UpdateConfig",
    "WebConfig",
    "check_settings",
    "load_config",
]
