"""The alarms of all machines, and which machines people have disabled."""

from collections.abc import Mapping

from monitor.config import Config
from monitor.daemon.alarm import Alarm
from monitor.daemon.commands import Refused
from monitor.daemon.state_file import AlarmState
from monitor.mqtt.messages import Acknowledge, Command, Disable, Enable, Snooze


class Alarms:
    """Outlives the machines that are listened to, and with `kept` the service."""

    def __init__(self, kept: Mapping[str, AlarmState]) -> None:
        self.disabled = {name for name, one in kept.items() if one.disabled}
        self._alarms = {name: Alarm(**one.model_dump(exclude={"disabled"})) for name, one in kept.items()}
        self._is_configured: dict[str, bool] = {}  # every machine, and whether it is enabled in the configuration

    def apply_config(self, config: Config) -> None:
        """Have one for every configured machine."""
        self._is_configured = {name: machine.enabled for name, machine in config.machines.items()}
        self._alarms = {name: self._alarms.get(name, Alarm()) for name in config.machines}
        self.disabled &= set(config.machines)
        for alarm in self._alarms.values():
            alarm.from_severity, alarm.repeat_s = config.alarm.from_, config.alarm.repeat_s

    def __getitem__(self, machine: str) -> Alarm:
        return self._alarms[machine]

    def act(self, machine: str, command: Command, now: float) -> None:
        """Carry out what a person asks; Refused says why not. `now` is in s since 1970."""
        if machine not in self._alarms:
            raise Refused(f"the machine must be one of {', '.join(self._alarms)}, got {machine}")
        if not self._is_configured[machine]:
            raise Refused("the machine is disabled in the configuration")
        alarm = self._alarms[machine]
        match command:
            case Disable():
                self.disabled.add(machine)
                alarm.reset()
            case Enable():
                self.disabled.discard(machine)
            case _ if machine in self.disabled:
                raise Refused("the machine is disabled")
            case Acknowledge(id=event):
                if (reason := alarm.acknowledge(event)) is not None:
                    raise Refused(reason)
            case Snooze(duration_s=duration_s):
                alarm.snooze(duration_s, now)

    def kept(self) -> dict[str, AlarmState]:
        """What a restart must not forget."""
        kept = {}
        for name, alarm in self._alarms.items():
            marks = alarm.marks
            kept[name] = AlarmState(
                acknowledged=marks.acknowledged,
                snoozed_until=marks.snoozed_until,
                flooding=marks.flooding,
                starts=alarm.latest,
                disabled=name in self.disabled,
            )
        return {name: one for name, one in kept.items() if one != AlarmState()}
