"""The roles of a TUF repository, with their usual thresholds and lives. Imports nothing: the command's help needs them."""

ROLES = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("snapshot", "timestamp")  # whose keys a timer uses, so they are not encrypted
THRESHOLDS = {"root": (2, 3), "targets": (1, 1), "snapshot": (1, 1), "timestamp": (1, 1)}  # signatures needed, of keys
EXPIRES_DAYS = {"root": 365, "targets": 365, "snapshot": 14, "timestamp": 7}
GROUP_EXPIRES_DAYS = 180
MAX_EXPIRES_DAYS = 3650
