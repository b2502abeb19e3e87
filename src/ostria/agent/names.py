"""The names that the mesh has addresses for, held as the control plane sends them: text, a part a namespace.

    control plane -> (Envoy, which has the certificates) -> NameStream -> Names.addresses(name)

The agent speaks xDS itself for this, delta, in as much of gRPC and protobuf as one type needs. It speaks it through
its Envoy, which makes HTTP/2 and TLS of it: neither has to be loaded here. What is held is searched as it is, since its
lines are sorted; an index would weigh more than the names.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.agent.lines import log
from ostria.agent.loop import FOREVER, now, sleep_until
from ostria.agent.settings import Settings
from ostria.agent.streams import HttpError, Stream, chunk, connect, fields

TYPE = b"type.googleapis.com/ostria.v1.Names"
PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

PAUSES = (0.2, 10.0)
"""The shortest and the longest time (seconds) from a stream's end to the next try."""

_LARGEST = 64 << 20


class Names:
    """What is known now."""

    def __init__(self) -> None:
        self.parts: dict[bytes, tuple[bytes, bytes]] = {}  # By name: the version, and the lines.

    def addresses(self, name: bytes) -> list[str] | None:
        """The addresses of a name in lower case, None if the mesh has none for it."""
        for _, text in self.parts.values():
            found = _line_of(text, name)
            if found is not None:
                return found.decode("ascii", "replace").split()
        return None

    def known(self, name: bytes, search: tuple[bytes, ...]) -> list[str] | None:
        """The addresses of a name as a program spells it, whose resolver would try these search domains.

        A name that was tried with a search domain already, and is one of ours without it, is answered at once; so is
        a short one that is ours with one of them. Wildcards stand for whole names only.
        """
        found = self.addresses(name)
        if found is not None:
            return found
        for domain in search:
            cut = name.removesuffix(b"." + domain)
            found = self.addresses(cut) if cut != name and b"." in cut else None
            if found is None and name.count(b".") < 5:
                found = self.addresses(name + b"." + domain)
            if found is not None:
                return found
        if any(name.endswith(b"." + domain) for domain in search):
            return None
        parent = name.partition(b".")[2]
        while parent:
            found = self.addresses(b"*." + parent)
            if found is not None:
                return found
            parent = parent.partition(b".")[2]
        return None

    def take(self, message: bytes) -> bytes:
        """Take over one DeltaDiscoveryResponse; returns its nonce."""
        nonce = b""
        for number, value in _fields(message):
            if number == 2:
                resource = dict(_fields(value))
                text = dict(_fields(resource.get(2, b""))).get(2, b"")
                self.parts[resource.get(3, b"")] = (resource.get(1, b""), text)
            elif number == 6:
                self.parts.pop(value, None)
            elif number == 5:
                nonce = value
        return nonce


def _line_of(text: bytes, name: bytes) -> bytes | None:
    """The rest of the line that begins with a name; lines are sorted by their names, and newlines stand around each."""
    low, high = 0, len(text) - 1
    while low < high:
        start = text.rfind(b"\n", 0, (low + high) // 2 + 1) + 1
        middle, end = text.find(b" ", start), text.find(b"\n", start)
        if end < 0 or middle < 0:
            return None
        found = text[start:middle]
        if found == name:
            return text[middle + 1 : end]
        if found < name:
            low = end
        else:
            high = start - 1
    return None


class NameStream:
    """Keeps the names up to date, for as long as the agent lives."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self._settings = settings
        self._names = names

    async def keep(self) -> None:
        """Listen to the control plane; what is known stays known while it is away."""
        pause = PAUSES[0]
        while True:
            began = now()
            try:
                await self._listen()
            except (OSError, HttpError) as error:
                if pause >= PAUSES[1]:
                    log("warn", "the control plane's names cannot be had", error=error)
            pause = PAUSES[0] if now() - began > PAUSES[1] else min(2 * pause, PAUSES[1])
            await sleep_until(now() + pause)

    async def _listen(self) -> None:
        stream = await connect(self._settings.names_socket, now() + PAUSES[1])
        stream.deadline = FOREVER
        try:
            token = _read(self._settings.token_file)
            lines = [f"POST {PATH} HTTP/1.1", "host: control-plane", "content-type: application/grpc", "te: trailers"]
            lines += [f"authorization: Bearer {token}", "transfer-encoding: chunked"]
            await stream.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            await stream.write(chunk(_framed(self._first())))
            head = await stream.read_head()
            if not head or head[0].split(" ")[1:2] != ["200"]:
                raise HttpError(head[0] if head else "no answer")
            told = fields(head[1:])
            if told.get("grpc-status", "0") != "0":
                raise HttpError(told.get("grpc-message", f"status {told['grpc-status']}"))
            await self._converse(stream)
        finally:
            stream.close()

    async def _converse(self, stream: Stream) -> None:
        data = b""
        while True:
            size = int((await stream.read_line()).partition(b";")[0] or b"0", 16)
            if not size:
                raise HttpError("the control plane has ended the stream")
            while size:
                piece = await stream.read()
                if not piece:
                    raise HttpError("the stream broke off")
                stream.keep(piece[size:])
                data += piece[:size]
                size -= len(piece[:size])
            await stream.read_line()
            # A message is preceded by a flag and its length (grpc.io: length-prefixed messages).
            while len(data) >= 5 and len(data) >= 5 + (length := int.from_bytes(data[1:5], "big")):
                if length > _LARGEST:
                    raise HttpError("too many names")
                nonce = self._names.take(data[5 : 5 + length])
                data = data[5 + length :]
                await stream.write(chunk(_framed(_field(2, TYPE) + _field(6, nonce))))

    def _first(self) -> bytes:
        node = _field(1, f"agent/{self._settings.pod}.{self._settings.namespace}".encode())
        known = b"".join(
            _field(5, _field(1, name) + _field(2, version)) for name, (version, _) in self._names.parts.items()
        )
        return _field(1, node) + _field(2, TYPE) + _field(3, b"*") + known


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


# --- protobuf (protobuf.dev: Encoding) ----------------------------------------------------------------------------


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _field(number: int, value: bytes) -> bytes:
    size, length = b"", len(value)
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + value


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length; others are passed over. Raises HttpError."""
    offset = 0
    while offset < len(data):
        tag, offset = _varint(data, offset)
        kind = tag & 7
        if kind == 2:
            length, offset = _varint(data, offset)
            yield tag >> 3, data[offset : offset + length]
            offset += length
        elif kind == 0:
            _, offset = _varint(data, offset)
        elif kind in (1, 5):
            offset += 8 if kind == 1 else 4
        else:
            raise HttpError("not a message")


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while offset < len(data):
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
        shift += 7
    raise HttpError("a message broke off")
