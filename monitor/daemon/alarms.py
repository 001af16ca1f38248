"""The alarms of all machines, and the machines disabled by command."""

from collections.abc import Mapping

from monitor.clock import SteadyClock
from monitor.config import Config
from monitor.daemon.alarm import Alarm
from monitor.daemon.control.commands import Refused
from monitor.daemon.state_file import AlarmState
from monitor.events.event import Severity
from monitor.mqtt.messages import Acknowledge, Command, Disable, Enable, Snooze


class Alarms:
    """Holds all alarms. They survive a reload of their machine and, through `saved`, a restart of the service."""

    def __init__(self, saved: Mapping[str, AlarmState]) -> None:
        self.clock = SteadyClock()  # a snooze lasts as long as ordered, although the system clock is set meanwhile
        self.disabled = {name for name, one in saved.items() if one.disabled}
        self._alarms = {name: Alarm(**one.model_dump(exclude={"disabled"})) for name, one in saved.items()}
        self._is_enabled: dict[str, bool] = {}  # in the configuration, for every configured machine

    def apply_config(self, config: Config) -> None:
        """Apply the settings, create alarms for new machines, and remove those of machines no longer configured."""
        self._is_enabled = {name: machine.enabled for name, machine in config.machines.items()}
        self._alarms = {name: self._alarms.get(name, Alarm()) for name in config.machines}
        self.disabled &= set(config.machines)
        for alarm in self._alarms.values():
            alarm.from_severity, alarm.repeat_s = config.alarm.from_, config.alarm.repeat_s

    def __getitem__(self, machine: str) -> Alarm:
        return self._alarms[machine]

    def follower(self, machine: str, severity: Severity) -> Alarm:
        """A new alarm of that minimum severity, which begins with the floods of the machine's own."""
        alarm = self._alarms[machine]
        return Alarm(from_severity=severity, flooding=alarm.marks.flooding, starts=alarm.latest)

    def act(self, machine: str, command: Command) -> None:
        """Execute a command; Refused if that is not possible."""
        if machine not in self._alarms:
            raise Refused(f"the machine must be one of {', '.join(self._alarms)}, got {machine}")
        if not self._is_enabled[machine]:
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
                alarm.snooze(duration_s, self.clock.now())

    def state(self) -> dict[str, AlarmState]:
        """The alarms that differ from the default, for the state file."""
        step_s = self.clock.step_s
        state = {
            name: AlarmState.of(alarm, disabled=name in self.disabled, step_s=step_s) for name, alarm in self._alarms.items()
        }
        return {name: one for name, one in state.items() if one != AlarmState()}
