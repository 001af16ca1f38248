"""How often passwords may be tried."""

import time
from collections import deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

WINDOW_S = 600.0
MAX_PER_ADDRESS = 8  # wrong passwords within the window
MAX_IN_ALL = 80
MAX_ADDRESSES = 1_000


class Attempts:
    """Counts wrong passwords per address (IPv6: per network) and in all."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: deque[tuple[float, str]] = deque(maxlen=MAX_ADDRESSES)

    def wait_s(self, address: str) -> float:
        """How long this address must wait before it may try again; 0 if it need not."""
        now, source = self._now(), _source(address)
        while self._failures and self._failures[0][0] <= now - WINDOW_S:
            self._failures.popleft()
        own = [at for at, by in self._failures if by == source]
        if len(own) >= MAX_PER_ADDRESS:
            return own[-MAX_PER_ADDRESS] + WINDOW_S - now
        if len(self._failures) >= MAX_IN_ALL:
            return self._failures[-MAX_IN_ALL][0] + WINDOW_S - now
        return 0.0

    def failed(self, address: str) -> None:
        """Count a wrong password."""
        self._failures.append((self._now(), _source(address)))


def _source(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else str(ip)
