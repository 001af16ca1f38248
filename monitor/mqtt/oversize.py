"""Which message is larger than the broker takes, found by how connections end: MQTT 3.1.1 has no word for it but to hang up."""

from collections.abc import Sequence

from monitor.mqtt.pending import Parcel

STRIKES = 5  # connections in a row that the broker has ended upon one message
QUIET_S = 3.0  # how long at least a connection has to stand still before a message that is suspected goes over it,
QUIET_TIMES = 4  # and how many times as long as the broker has needed to hang up


class Doubts:
    """Tells a message that is too large from a network that is bad. Times are s of the monotonic clock.

    After a connection that ended with messages under way, those go one at a time. A message is found guilty when the broker
    has hung up upon it alone STRIKES times in a row, on connections that had taken something smaller and nothing as large,
    and had then stood still for much longer than the broker needs to hang up. Any other end of a connection begins the
    count anew.
    """

    def __init__(self) -> None:
        self.too_large: int | None = None  # size of the smallest that was found guilty
        self._suspects: set[str | int] = set()
        self._strikes: dict[str | int, int] = {}
        self._slowest_s = 0.0  # from sending to hanging up
        self._largest_taken = 0
        self._still_since = 0.0
        self._sent_at = 0.0

    def begin(self, now: float) -> None:
        """A new connection."""
        self._largest_taken, self._still_since = 0, now

    def allow(self, parcel: Parcel, *, n_under_way: int, now: float) -> bool:
        """Whether it may be sent now, while so many messages are not answered yet."""
        if not self._suspects:
            return True
        quiet_s = max(QUIET_S, QUIET_TIMES * self._slowest_s) if parcel.key in self._strikes else 0.0
        return n_under_way == 0 and now - self._still_since >= quiet_s

    def sent(self, now: float) -> None:
        """A message is under way."""
        self._sent_at = now

    def answered(self, parcel: Parcel, *, is_too_large: bool, now: float) -> None:
        """The broker has taken it, or has said that it is too large."""
        self._suspects.discard(parcel.key)
        self._strikes.pop(parcel.key, None)
        self._still_since = now
        if is_too_large:
            self.too_large = min(parcel.n_bytes, self.too_large or parcel.n_bytes)
            return
        self._largest_taken = max(self._largest_taken, parcel.n_bytes)
        if self.too_large is not None and parcel.n_bytes >= self.too_large:
            self.too_large = None

    def is_too_large(self, parcel: Parcel, *, max_packet: int | None) -> bool:
        """Whether it need not be tried; events are, unless the broker has said how much it takes."""
        if max_packet is not None and parcel.n_bytes > max_packet:
            return True
        return parcel.row is None and self.too_large is not None and parcel.n_bytes >= self.too_large

    def end(self, under_way: Sequence[Parcel], *, hung_up: bool, n_under_way: int, now: float) -> Parcel | None:
        """A connection has ended, if `hung_up` by the broker; returns the message that is proven to be the cause.

        `n_under_way` counts what is not in `under_way`, too.
        """
        if not hung_up or not under_way:
            self._strikes.clear()
            return None
        self._suspects = {parcel.key for parcel in under_way if parcel.row is not None or parcel.lasts}
        if n_under_way > 1 or not self._suspects:
            return None
        (parcel,) = under_way
        if parcel.n_bytes <= self._largest_taken:  # so it is not its size
            self._strikes.clear()
            return None
        self._slowest_s = max(self._slowest_s, now - self._sent_at) if self._strikes else now - self._sent_at
        self._strikes[parcel.key] = self._strikes.get(parcel.key, 0) + 1
        if self._strikes[parcel.key] < STRIKES:
            return None
        self._strikes.clear()
        self._suspects.clear()
        self.too_large = parcel.n_bytes
        return parcel
