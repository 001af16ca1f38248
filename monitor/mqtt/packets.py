"""The broker's packets, checked and bounded before paho reads them, which itself stores packets of up to 256 MB."""

from collections.abc import Callable

MAX_BYTES = 65_536  # of a message, with its topic; commands are much shorter
MAX_OTHER = 4_096  # bytes of any other packet
MAX_READS = 64  # of a packet that is discarded, before other work is done
CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = EXPECTED = (2, 3, 4, 9, 11, 13, 14)


class BadPacket(Exception):
    """The broker sent a packet that must not be processed. The text follows its address."""


class PacketReader:
    """Reads packets from a socket that does not block.

    A PUBLISH packet of more than `max_bytes` is truncated: the rest is read and discarded, so that one large retained message
    does not end every connection. Other large packets, packets that a broker does not send to this client, and QoS 2, which would
    store messages until the broker releases them, raise BadPacket.
    """

    def __init__(self, receive: Callable[[int], bytes], *, max_bytes: int = MAX_BYTES) -> None:
        """`receive`: the socket's `recv`. It returns nothing at the end of the stream, and raises OSError."""
        self.n_packets = 0
        self.n_bytes = 0  # received so far
        self.n_discarded = 0  # bytes that the last packet lacks
        self._receive = receive
        self._max_bytes = max_bytes
        self._header = bytearray()
        self._body = bytearray()
        self._n_left: int | None = None  # bytes of the body that have not been received; None: the header is incomplete

    def read(self) -> bytes:
        """The next packet, or nothing at the end of the stream. BlockingIOError if it is not complete yet."""
        for _ in range(MAX_READS):
            if self._n_left == 0:
                return self._finish()
            data = self._receive(1 if self._n_left is None else min(self._n_left, self._max_bytes))
            if not data:
                return b""
            self.n_bytes += len(data)
            if self._n_left is None:
                self._add_to_header(data)
            else:
                self._n_left -= len(data)
                self._body += data[: self._max_bytes - len(self._body)]
        raise BlockingIOError

    def _add_to_header(self, data: bytes) -> None:
        self._header += data
        kind, flags = self._header[0] >> 4, self._header[0] & 15
        if kind not in EXPECTED:
            raise BadPacket(f"sent a packet of type {kind}, which a broker must not send")
        if kind == PUBLISH and flags & 0b100:
            raise BadPacket("sent a message of QoS 2, although QoS 1 was requested")
        digits = self._header[1:]
        if not digits or digits[-1] & 128:
            if len(digits) == 4:
                raise BadPacket("sent a packet of invalid length")
            return
        length = sum((digit & 127) << 7 * i for i, digit in enumerate(digits))
        if length > MAX_OTHER and kind != PUBLISH:
            raise BadPacket(f"sent a packet of type {kind} with {length} bytes (at most {MAX_OTHER} are accepted)")
        self._n_left = length
        self.n_discarded = max(0, length - self._max_bytes)

    def _finish(self) -> bytes:
        packet = bytes([self._header[0], *_variable_length(len(self._body)), *self._body])
        self._header.clear()
        self._body.clear()
        self._n_left = None
        self.n_packets += 1
        return packet


def _variable_length(number: int) -> list[int]:
    return [number] if number < 128 else [number % 128 | 128, *_variable_length(number // 128)]
