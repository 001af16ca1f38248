"""The questions of `monitor setup`, each of which changes the draft of the configuration."""

import argparse
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monitor.bundle.manifest import read_manifest
from monitor.cli.commands import DEFAULT_CONFIG
from monitor.cli.setup.ask import Asker, heading, slug
from monitor.cli.setup.broker import Chosen, Given, choose_broker, read_password
from monitor.cli.setup.draft import Draft
from monitor.cli.setup.microphone import choose_microphone
from monitor.config import MachineConfig, MqttConfig
from monitor.daemon.control.socket import NAME
from monitor.errors import UsageError
from monitor.shipped import shipped
from monitor.web.access.passwords import MIN_LENGTH, check_length


def ask_all(arguments: argparse.Namespace, asker: Asker, draft: Draft) -> tuple[str, str | None]:
    """All questions. The machine, and the new password of the page; everything else is in the draft."""
    if not arguments.yes:
        print("Enter takes the answer in brackets. Ctrl-C stops; run `monitor setup` again to continue.")
    heading("Machine")
    machine = _machine(arguments, asker, draft)
    node = _node(arguments, draft)
    present = draft.config.mqtt
    heading("MQTT broker")
    given = Given(arguments.broker, arguments.user, arguments.password_file, arguments.plain_text, arguments.ca)
    chosen = choose_broker(asker, given, present, is_fresh=draft.is_fresh, node=node)
    _set_broker(draft, chosen)
    if chosen is not None:
        _home_assistant(arguments, asker, draft)
    return machine, _page_password(arguments, asker)


def _machine(arguments: argparse.Namespace, asker: Asker, draft: Draft) -> str:
    """The machine and its microphone."""
    configured = draft.config.machines
    first = next(iter(configured), "machine")
    question = "Name of the machine" if len(configured) < 2 else f"Name of the machine ({', '.join(configured)}, or a new one)"
    entered = asker.text("machine", question, default=first, given=arguments.machine, check=_named)
    machine = slug(entered)
    settings = configured.get(machine)
    if settings is None and draft.is_fresh:  # the shipped example
        draft.rename_machine(first, machine)
        settings = configured[first]
    name = arguments.name or (entered if entered != machine else settings.name if settings else None)
    print(f"  {machine}{'' if name is None else f': {name}'}")
    heading("Microphone")
    bundle = _bundle(arguments.bundle, configured, settings, draft.path.parent)
    microphone = choose_microphone(
        asker,
        draft.config.runtime_dir / NAME,
        bundle=bundle,
        present=None if settings is None or draft.is_fresh else settings.microphone,
        given=arguments.microphone,
    )
    keys = ("machines", machine)
    if settings is None:
        named = {} if name is None else {"name": name}
        draft.set(keys, {"bundle": _relative(bundle, draft.path.parent), **named, "microphone": microphone}, None)
        return machine
    if arguments.bundle is not None:
        draft.set((*keys, "bundle"), _relative(bundle, draft.path.parent), _relative(settings.bundle, draft.path.parent))
    draft.set((*keys, "name"), name, settings.name)
    draft.set((*keys, "microphone"), microphone, settings.microphone)
    return machine


def _named(text: str) -> str:
    slug(text)
    return text


def _bundle(given: Path | None, configured: dict[str, MachineConfig], settings: MachineConfig | None, folder: Path) -> Path:
    """The given bundle, which must be valid; else that of the machine, of another one, or the shipped base."""
    if given is None:
        return (settings or next(iter(configured.values()))).bundle if configured else shipped("models/base")
    places = (given.absolute(), (folder / given).absolute(), shipped(given))
    bundle = next((place for place in places if place.is_dir()), None)
    if bundle is None:
        names = sorted(f"models/{folder.parent.name}" for folder in shipped("models").glob("*/manifest.json"))
        raise UsageError(f"--bundle {given}: no such folder; shipped are {', '.join(names)}")
    read_manifest(bundle)
    return bundle


def _relative(bundle: Path, folder: Path) -> str:
    """A bundle as it is written: one that is shipped, or that lies beside the configuration, by its relative path."""
    models = shipped("models")
    if bundle.is_relative_to(folder):
        return str(bundle.relative_to(folder))
    if bundle.is_relative_to(models) and not (folder / "models" / bundle.relative_to(models)).exists():
        return str(bundle.relative_to(models.parent))
    return str(bundle)


def _node(arguments: argparse.Namespace, draft: Draft) -> str:
    node = draft.config.node
    if arguments.node is not None:
        node = arguments.node
        if node != slug(node):
            raise UsageError(f"--node must be of a-z, 0-9, _ and -, such as {slug(node)}, got {node!r}")
    elif draft.is_fresh:
        node = slug(socket.gethostname().partition(".")[0])
    draft.set(("node",), node, draft.config.node)
    return node


def _set_broker(draft: Draft, chosen: Chosen | None) -> None:
    present = draft.config.mqtt
    if chosen is None:
        draft.set(("mqtt",), None, present)
        return
    before = (present or MqttConfig()).model_dump(mode="json")
    settings = dict(chosen.settings)
    if chosen.password is not None:
        settings |= _store_password(draft, present or MqttConfig(), chosen.password)
    elif not chosen.keeps_password:
        settings |= {"password_file": None, "password_credential": None}
    for key, value in settings.items():
        draft.set(("mqtt", key), value, before[key] if present is not None or key not in ("host", "port") else object())


def _store_password(draft: Draft, before: MqttConfig, text: str) -> dict[str, Any]:
    """The settings of a password that is written with the configuration."""
    draft.password = text
    if before.password_file is not None:
        draft.password_path = before.password_file
        return {}
    draft.password_path = draft.path.parent / "mqtt-password"
    if draft.path.parent == DEFAULT_CONFIG.parent:
        return {"password_credential": "mqtt-password"}  # the unit passes it
    return {"password_file": "mqtt-password"}


def _home_assistant(arguments: argparse.Namespace, asker: Asker, draft: Draft) -> None:
    present = draft.config.home_assistant
    if arguments.no_home_assistant:
        prefix = "none"
    else:
        if not asker.yes:
            heading("Home Assistant")
        default = present.discovery_prefix if present.enabled else "none"
        question = "Its discovery prefix, or none"
        prefix = asker.text("home_assistant", question, default=default, given=None, check=_prefix)
    draft.set(("home_assistant", "enabled"), prefix != "none", present.enabled)
    if prefix != "none":
        draft.set(("home_assistant", "discovery_prefix"), prefix, present.discovery_prefix)


def _prefix(text: str) -> str:
    if not text or any(char in text for char in "+# "):
        raise UsageError(f"must be words separated by /, without +, # and spaces, got {text!r}")
    return text


def _page_password(arguments: argparse.Namespace, asker: Asker) -> str | None:
    """The new password of the page; None: leave it as it is."""
    if arguments.page_password_file is not None:
        password = read_password("--page-password-file", arguments.page_password_file)
        try:
            check_length(password)
        except UsageError as error:
            raise UsageError(f"--page-password-file {arguments.page_password_file}: {error}") from None
        return password
    if asker.yes:
        return None
    heading("Page")
    if find_spec("starlette") is None:
        print("  It is not installed: pip install 'stethos[web]'")
        return None
    print("  A password opens it to other computers; without one only this computer sees it.")
    while True:
        password = asker.secret(f"Password, at least {MIN_LENGTH} characters (Enter: leave it as it is)")
        if not password:
            return None
        try:
            check_length(password)
        except UsageError as error:
            print(f"  {error}")
            continue
        if asker.secret("Again") == password:
            return password
        print("  The two entries differ.")
