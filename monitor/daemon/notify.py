"""Notifications for systemd (sd_notify(3)), one datagram each. None are sent if systemd did not request them."""

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends READY, STATUS, RELOADING, STOPPING and WATCHDOG to NOTIFY_SOCKET, if it is set."""

    def __init__(self, address: str | None = None) -> None:
        address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`. Never blocks and never fails."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except BlockingIOError:
            return  # its queue is full
        except OSError as error:
            log.warning("systemd: cannot be notified: %s", error)

    def status(self, text: str) -> None:
        """Send the status text if it has changed."""
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")
