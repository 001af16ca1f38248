"""Print the JSON Schema of the configuration: python -m monitor.config >configs/monitor.schema.json."""

import json

from monitor.config.settings import Config

print(json.dumps(Config.model_json_schema(), indent=2))
