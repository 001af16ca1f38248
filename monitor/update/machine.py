"""The change of a machine's bundle: check, compare, switch, and go back if the new one is worse."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from monitor.bundle import Bundle, load_bundle
from monitor.config import Config, MachineConfig
from monitor.config.installed import Change, Installed
from monitor.daemon.bundles.adaptations import read_adaptation
from monitor.errors import BundleError, StethosError, UsageError
from monitor.events.event import from_rfc3339, rfc3339
from monitor.update.compare import Comparison, compare_live, false_alarm
from monitor.update.errors import Refusal, UpdateError
from monitor.update.service import Service
from monitor.update.store import Store

log = logging.getLogger(__name__)
RELOAD_S = 60.0
TRIAL_S = 180.0  # of live sound that judge an alarm without a clip, if update.shadow_s is 0
MAX_JUDGED = 5  # alarms of a trial whose clips are scored in one run


@dataclass(frozen=True)
class Offer:
    """A bundle to install."""

    archive: bytes
    what: str  # its file or target, for errors
    digest: str | None = None  # SHA-256 of its manifest, if known
    release: str | None = None
    is_return: bool = False  # to the bundle before, because a release was taken back: no comparison, no trial


class MachineUpdate:
    """The bundles of one machine of this node. `config` has the configured bundles, not the installed ones."""

    def __init__(self, config: Config, folder: Path, machine: str, service: Service) -> None:
        self._settings: MachineConfig = config.machines[machine]
        self._update = config.update
        self._state_dir = config.state_dir
        self._folder = folder
        self._machine = machine
        self._service = service
        self.store = Store(folder, machine)
        self.store.clean()

    def installed(self) -> Installed:
        """The bundle in use, and the one before."""
        return self.store.read()

    def install(self, offer: Offer, *, compares: bool = True, force: bool = False) -> str:
        """Install a bundle and return the outcome in words; the old bundle stays in use if anything fails.

        Refusal or BundleError if the bundle is unusable or worse, UpdateError if it cannot be installed now. `force` installs it
        without sound to compare, and without a trial. A bundle in use that does not load is replaced or repaired.
        """
        before = self.installed()
        old = self._load(before.current)
        name = self.store.add(offer.archive, digest=offer.digest, what=offer.what)
        new = load_bundle(self.store.path / name)
        if before.current.folder == name:
            self.store.write(before.model_copy(update={"current": before.current.model_copy(update={"release": offer.release})}))
            if isinstance(old, Bundle):
                return f"{new.id} is in use already"
            return f"{new.id} was damaged and is repaired; {self._service.use(self._machine, new.id, within_s=RELOAD_S)}"
        if not (offer.is_return or force) and new.is_base and isinstance(old, Bundle) and not old.is_base:
            raise Refusal(f"{self._machine}: {new.id} is a base bundle and detects nothing until it has learned; {old.id} stays")
        words = "" if offer.is_return or not compares else self._compare(old, new, force=force)
        change = Change(folder=name, bundle=new.id, release=offer.release, since=rfc3339(_now()))
        trial = None if offer.is_return or force else self._trial_end()
        intact = before.current.model_copy(update={"bundle": old.id}) if isinstance(old, Bundle) else before.previous or Change()
        previous = None if offer.is_return else intact
        outcome = self._switch(before, change, new.id, previous=previous, trial_until=trial)
        return f"{new.id} installed{words}; {outcome}"

    def is_intact(self) -> bool:
        """Whether the bundle in use loads."""
        return isinstance(self._load(self.installed().current), Bundle)

    def check_adapted(self) -> None:
        """Kept if the machine uses a bundle that was learned or calibrated on this node. UpdateError if that is unknown."""
        status = self._service.machine(self._machine)
        made = self._made_on_disk() if status is None else status.get("adapted")
        if made is not None:
            what = "the bundle" if status is None else status.get("bundle")
            raise Kept(f"{self._machine} keeps {what}, which was {'learned' if made == 'learn' else 'calibrated'} on this node")

    def _made_on_disk(self) -> str | None:
        """The command that made the bundle in use, from the service's files, while the service does not run."""
        current = self.installed().current
        if current.folder is not None and not self.is_intact():
            return None  # nothing that was made from it can be used
        unknown = f"{self._machine} waits: the service does not monitor it, so it is unknown whether it has learned on this node"
        if self._state_dir.resolve() == self._folder.resolve():  # in the unit, which cannot see the service's files
            raise UpdateError(unknown)
        try:
            found = read_adaptation(self._state_dir, self._machine)
        except (StethosError, OSError) as error:
            raise UpdateError(f"{unknown} ({error})") from error
        if found is None or not found.is_of(self._bundle_of(current)):
            return None
        return "calibrate" if found.calibrate is not None else "learn" if found.learn is not None else None

    def rename(self, release: str) -> None:
        """Note that the current bundle now belongs to another release."""
        installed = self.installed()
        if installed.current.release != release:
            self.store.write(installed.model_copy(update={"current": installed.current.model_copy(update={"release": release})}))

    def undo(self, *, refuse: str | None = None) -> str:
        """Go back to the bundle before. A released bundle is not installed again; `refuse` is the reason."""
        before = self.installed()
        if before.previous is None:
            raise UsageError(f"{self._machine}: there is no earlier bundle to go back to")
        refused = dict(before.refused)
        if refuse is not None or before.current.release is not None:
            refuse = refuse or "undone on this node"
            refused[refusal_key(before.current)] = f"{before.current.release}: {refuse}"[:900]
        old = self._bundle_of(before.previous)
        change = before.previous.model_copy(update={"since": rfc3339(_now())})
        if change.folder is None:
            change = change.model_copy(update={"bundle": None})  # the configuration may name another one later
        kept = before.model_copy(update={"refused": refused})
        outcome = self._switch(kept, change, old.id, or_adapted=True)
        return f"back to {old.id}; {outcome}"

    def refuse(self, key: str, reason: str) -> None:
        """Remember that a bundle is not to be tried again."""
        installed = self.installed()
        self.store.write(installed.model_copy(update={"refused": {**installed.refused, key: reason[:900]}}))
        self.store.clean()

    def return_to_configured(self) -> str:
        """Use the configured bundle again, because no release is left for this machine."""
        before = self.installed()
        configured = load_bundle(self._settings.bundle)
        outcome = self._switch(before, Change(since=rfc3339(_now())), configured.id, or_adapted=True)
        return f"back to the configured {configured.id}; {outcome}"

    def check_trial(self) -> str | None:
        """Judge the alarms of the current bundle while it is on trial, and go back if the old one does not share one.

        None if it is not on trial.
        """
        installed = self.installed()
        if installed.trial_until is None or installed.current.since is None or installed.previous is None:
            return None
        if from_rfc3339(installed.trial_until) < _now():
            self.store.write(installed.model_copy(update={"trial_until": None}))
            return f"{installed.current.bundle} has passed its trial"
        since = from_rfc3339(installed.current.since)
        alarms = self._service.alarms(self._machine, str(installed.current.bundle), since)
        if not alarms:
            return f"{installed.current.bundle} on trial until {installed.trial_until}, no alarm so far"
        old, new = self._load(installed.previous), self._load(installed.current)
        if isinstance(old, str) or isinstance(new, str):
            return f"{installed.current.bundle} on trial: its alarms cannot be judged: {old if isinstance(old, str) else new}"
        clips = [clip for event in alarms[:MAX_JUDGED] if (clip := self._service.clip(event["id"])) is not None]
        found = (false_alarm(clip, self._settings, old, new) for clip in clips)
        reason = next((one for one in found if one is not None), None)
        if not clips:  # of private sound, for example: judge by the sound of now
            seconds = self._update.shadow_s or TRIAL_S
            comparison = compare_live(self._service.control, self._settings, old, new, seconds=seconds)
            reason = comparison.problem if isinstance(comparison, Comparison) else None
        if reason is None:
            return f"{installed.current.bundle} on trial: {len(alarms)} alarms, which {old.id} shares or cannot judge"
        outcome = self.undo(refuse=reason)
        raise Refusal(f"{self._machine}: {reason}: {outcome}")

    def _switch(
        self,
        before: Installed,
        change: Change,
        bundle_id: str,
        *,
        previous: Change | None = None,
        trial_until: str | None = None,
        or_adapted: bool = False,
    ) -> str:
        """Commit the change and have the service use it. If it does not, the state before is restored."""
        self.store.write(before.model_copy(update={"current": change, "previous": previous, "trial_until": trial_until}))
        try:
            outcome = self._service.use(self._machine, bundle_id, within_s=RELOAD_S, or_adapted=or_adapted)
        except StethosError as error:
            self.store.write(before)
            old = self._load(before.current)
            if isinstance(old, str):
                raise UpdateError(f"{error}; the bundle before cannot be used: {old}") from error
            try:
                self._service.use(self._machine, old.id, within_s=RELOAD_S, or_adapted=True)
            except StethosError as again:
                log.error("%s: %s", self._machine, again)
            raise UpdateError(f"{error}; {old.id} stays") from error
        self.store.clean()
        return outcome

    def _compare(self, old: Bundle | str, new: Bundle, *, force: bool) -> str:
        """Compare both bundles on live sound; a remark for the outcome. `old` is the reason if the old one does not load."""
        if isinstance(old, str):
            return f" without a comparison ({old})"
        if self._update.shadow_s == 0:
            return ""
        found = compare_live(self._service.control, self._settings, old, new, seconds=self._update.shadow_s)
        if isinstance(found, str):
            if self._update.require_shadow and not force:
                raise UpdateError(f"{self._machine}: {new.id} waits: no sound to compare: {found} (update.require_shadow)")
            return f" without a comparison ({found})"
        if (problem := found.problem) is not None:
            raise Refusal(f"{self._machine}: {problem}; {found.in_words}")
        return f" ({found.in_words})"

    def _bundle_of(self, change: Change) -> Bundle:
        return load_bundle(self._settings.bundle if change.folder is None else self.store.path / change.folder)

    def _load(self, change: Change) -> Bundle | str:
        """The bundle, or why it does not load."""
        try:
            return self._bundle_of(change)
        except BundleError as error:
            return str(error)

    def _trial_end(self) -> str | None:
        return None if self._update.trial_h == 0 else rfc3339(_now() + timedelta(hours=self._update.trial_h))


class Kept(UpdateError):
    """The machine keeps the bundle that was made on its node."""


def refusal_key(change: Change) -> str:
    """The key of a bundle among those that are refused."""
    return f"{change.release} {change.bundle}"


def _now() -> datetime:
    return datetime.now(timezone.utc)
