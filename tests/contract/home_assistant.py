"""Home Assistant itself, headless, with its MQTT integration: run by a Python that has it, told by lines on stdin.

python tests/contract/home_assistant.py FOLDER PORT CONFIGS; commands: states | press ENTITY | fire EVENT JSON | quit

CONFIGS holds the package of automations and the blueprint, of which there is one automation, for the fan.
"""

import asyncio
import json
import logging
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict


class Assistant:
    """One that knows a broker, the automations of a package and of a blueprint, and two phones that are notified."""

    def __init__(self, folder: Path, port: int, configs: Path) -> None:
        self._folder, self._port, self._configs = folder, port, configs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._web_port = probe.getsockname()[1]
        self._notified: list[dict[str, Any]] = []

    async def start(self) -> None:
        (self._folder / "configuration.yaml").write_text("{}\n")
        self._hass = hass = core.HomeAssistant(str(self._folder))
        hass.config.skip_pip = True
        loader.async_setup(hass)
        hass.config_entries = config_entries.ConfigEntries(hass, {})
        await bootstrap.async_load_base_functionality(hass)
        hass.auth = await auth.auth_manager_from_config(hass, [], [])
        for phone in ("notify", "mobile_app_phone"):
            hass.services.async_register("notify", phone, lambda call: self._notified.append({"to": call.service, **call.data}))
        assert await async_setup_component(hass, "homeassistant", {})
        assert await async_setup_component(hass, "http", {"http": {"server_host": "127.0.0.1", "server_port": self._web_port}})
        entry = config_entries.ConfigEntry(
            data={"broker": "127.0.0.1", "port": self._port},
            disabled_by=None,
            discovery_keys={},
            domain="mqtt",
            minor_version=2,
            options={},
            source="user",
            subentries_data=None,
            title="broker",
            unique_id=None,
            version=1,
        )
        await hass.config_entries.async_add(entry)
        package = load_yaml_dict(str(self._configs / "stethos.yaml"))
        assert await async_setup_component(hass, "automation", {"automation": [*package["automation"], self._from_blueprint()]})
        await hass.async_start()

    def _from_blueprint(self) -> dict[str, Any]:
        place = self._folder / "blueprints" / "automation" / "stethos"
        place.mkdir(parents=True)
        shutil.copy(self._configs / "blueprint.yaml", place)
        entities = {"anomaly": "binary_sensor.fan_anomaly", "event": "event.fan_event", "picture": "image.fan_last_event"}
        buttons = {"acknowledge": "button.fan_acknowledge", "snooze": "button.fan_snooze_for_an_hour"}
        given = {**entities, **buttons, "notify_action": "notify.mobile_app_phone"}
        return {"id": "of_blueprint", "alias": "fan", "use_blueprint": {"path": "stethos/blueprint.yaml", "input": given}}

    async def process_pending(self, line: str) -> object:
        word, *rest = line.split(" ", 2)
        hass = self._hass
        if word == "states":
            return {
                "states": {one.entity_id: [one.state, dict(one.attributes)] for one in hass.states.async_all()},
                "devices": [device.name for device in device_registry.async_get(hass).devices.values()],
                "unique_ids": {one.entity_id: one.unique_id for one in entity_registry.async_get(hass).entities.values()},
                "notified": self._notified,
            }
        if word == "press":
            await hass.services.async_call("button", "press", {"entity_id": rest[0]}, blocking=True)
        if word == "fire":
            hass.bus.async_fire(rest[0], json.loads(rest[1]))
        return {}

    async def stop(self) -> None:
        await self._hass.async_stop(force=True)


async def main(folder: str, port: str, configs: str) -> None:
    assistant = Assistant(Path(folder), int(port), Path(configs))
    await assistant.start()
    print("ready", flush=True)
    while (line := await asyncio.to_thread(sys.stdin.readline)) and line != "quit\n":
        print(json.dumps(await assistant.process_pending(line.rstrip("\n")), default=str), flush=True)
    await assistant.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(main(*sys.argv[1:]))
