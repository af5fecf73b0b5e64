"""Messages over one gRPC stream, with a limit on what comes in, which the library does not have.

The library's own methods take messages of up to 4 GiB, and write each answer by itself. So frames are read and written
here, over the stream that it hands out.
"""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from google.protobuf.message import DecodeError
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
        try:
            prefix = await self._wire.recv_data(PREFIX)
            if not prefix:
                return None
            if prefix[0]:
                raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not understood; send them as they are")
            size = int.from_bytes(prefix[1:], "big")
            if size > self._most_bytes:
                text = f"a message has {size} bytes; at most {self._most_bytes} may be"
                raise GRPCError(Status.RESOURCE_EXHAUSTED, text)
            return kind.FromString(await self._wire.recv_data(size))
        except (AssertionError, DecodeError) as error:  # the library asserts that what was announced has come
            raise GRPCError(Status.INVALID_ARGUMENT, f"this is no {kind.DESCRIPTOR.full_name}") from error

    async def end(self, *messages: Any) -> None:
        """Say all that and hang up, as one piece.

        A gateway that shows answers to its picker would otherwise do so if the engine was faster than the end of this
        conversation, and what it had shown by then would be lost: nobody sends it back.
        """
        if not self._wire.closable:
            return  # nobody listens any more
        frames = []
        for message in messages:
            data = message.SerializeToString()
            frames += [b"\0", len(data).to_bytes(4, "big"), data]
        whole, wire = b"".join(frames), self._wire
        most = wire._h2_connection.max_outbound_frame_size
        if len(whole) > most:
            await self._stream.send_initial_metadata()
            await wire.send_data(whole[:-most])
            whole = whole[-most:]
        if not self._takes(len(whole)):
            await self._say(whole)  # in parts, as the gateway has room for them
            return
        # nothing waits in here, so that nothing else is written meanwhile: the order of headers matters in HTTP/2
        transport, held = wire._transport, _Held(wire._transport)
        wire._transport = held  # type: ignore[assignment]
        try:
            await self._say(whole)
            await self._stream.send_trailing_metadata()
        finally:
            wire._transport = transport
            transport.write(held.data)

    async def _say(self, data: bytes) -> None:
        if not self._stream._send_initial_metadata_done:
            await self._stream.send_initial_metadata()
        await self._wire.send_data(data)

    def _takes(self, size: int) -> bool:
        """Whether so much can be sent now, in one frame."""
        wire = self._wire
        if wire.id is None or not wire.connection.write_ready.is_set():
            return False
        return wire._h2_connection.local_flow_control_window(wire.id) >= size


class _Held:
    """Keeps back what is written for a moment."""

    __slots__ = ("_transport", "data")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return self._transport.is_closing()
