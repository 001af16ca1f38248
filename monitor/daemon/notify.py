"""Tell systemd how the service is (sd_notify(3)): one datagram, nothing where nobody asked for it."""

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """READY, STATUS, RELOADING, STOPPING and WATCHDOG to the socket that systemd named, if any."""

    def __init__(self, address: str | None = None) -> None:
        address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`; a systemd that does not listen is no reason to wait or to fail."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except BlockingIOError:
            return  # it has too much to read as it is
        except OSError as error:
            log.warning("systemd: cannot be notified: %s", error)

    def status(self, text: str) -> None:
        """Say in plain words how things are, when that has changed."""
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")
