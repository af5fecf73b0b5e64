"""Messages over one gRPC stream, with a limit on what comes in, which the library does not have.

The library's own methods take messages of up to 4 GiB, and write each answer by itself. So frames are read and written
here, over the stream that it hands out.
"""

from __future__ import annotations

from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

PREFIX = 5  # one byte that says whether the message is compressed, four of its length


class Messages:
    """`most_bytes`: of one message that comes in."""

    __slots__ = ("_most_bytes", "_stream", "_wire")

    def __init__(self, stream: Stream[Any, Any], most_bytes: int) -> None:
        self._stream = stream
        self._wire = stream._stream
        self._most_bytes = most_bytes

    def metadata(self, name: str) -> str:
        """What the caller says beside its messages; empty if nothing."""
        metadata = self._stream.metadata
        return str(metadata.get(name, "")) if metadata else ""

    async def read(self, kind: Any) -> Any:
        """The next message; None after the last. Raises GRPCError where it cannot be taken."""
        prefix = await self._wire.recv_data(PREFIX)
        if not prefix:
            return None
        if prefix[0]:
            raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not understood; send them as they are")
        size = int.from_bytes(prefix[1:], "big")
        if size > self._most_bytes:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message has {size} bytes; at most {self._most_bytes} may be")
        return kind.FromString(await self._wire.recv_data(size))

    async def write(self, *messages: Any) -> None:
        """All of them, at once."""
        await self._stream.send_initial_metadata()
        frames = []
        for message in messages:
            data = message.SerializeToString()
            frames += [b"\0", len(data).to_bytes(4, "big"), data]
        await self._wire.send_data(b"".join(frames))
