"""A picker on loopback over a fleet, and a gateway that talks to it as Envoy does."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.json_format import MessageToDict
from grpclib.client import Channel, StreamStreamMethod

from lora_operator.picking.ext_proc_pb2 import BodySendMode, ProcessingRequest, ProcessingResponse
from lora_operator.picking.server import PROCESSOR, PickerServer, start_picker
from lora_operator.router.settings import RouterSettings
from tests.router.fleet import Fleet
from tests.router.serving import Served, served

JSON = {"content-type": "application/json"}


@dataclass
class Told:
    """What the picker had Envoy do. `status` is 0 where the request goes on."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    ends: bool = False
    removed: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return self.headers.get("x-gateway-destination-endpoint", "")

    @property
    def model(self) -> str:
        return str(json.loads(self.body)["model"])

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


class Gateway:
    """One connection to the picker."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.channel = Channel("127.0.0.1", port, ssl=context)
        self._process = StreamStreamMethod[Any, Any](
            self.channel, f"/{PROCESSOR}/Process", ProcessingRequest, ProcessingResponse
        )

    async def ask(
        self, body: Any = None, *, method: str = "POST", path: str = "/v1/completions", chunks: int = 1,
        headers: dict[str, str] | None = None, subset: Sequence[str] | str | None = None, namespace: str = "",
        mode: str = "FULL_DUPLEX_STREAMED", trailers: bool = False, token: Any = None,
        more: Sequence[tuple[str, str]] = (),
    ) -> Told:  # fmt: skip
        """`token`: claims that Envoy has verified. `more`: headers, also several of one name.

        `body` None: none follows; bytes go as they are. `namespace`: what the gateway's configuration names."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        first = ProcessingRequest()
        first.protocol_config.request_body_mode = BodySendMode.Value(mode)
        first.request_headers.end_of_stream = data is None
        length = {} if data is None else {"content-length": str(len(data))}
        said = {":method": method, ":path": path} | JSON | length | (headers or {})
        for key, value in (*said.items(), *more):
            header = first.request_headers.headers.headers.add()
            header.key, header.raw_value = key, value.encode()
        if subset is not None:
            value = subset if isinstance(subset, str) else list(subset)
            first.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(
                {"x-gateway-destination-endpoint-subset": value}
            )
        if token is not None:
            first.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"].update({"token": token})
        sent = [first, *(self._pieces(data, chunks, trailers) if data is not None else ())]
        return await self.talk(*sent, metadata={"x-lora-namespace": namespace} if namespace else {})

    async def talk(self, *messages: Any, metadata: dict[str, str] | None = None) -> Told:
        """Say all that at once, and listen until the picker ends it."""
        async with asyncio.timeout(60), self._process.open(metadata=metadata) as stream:
            for message in messages:
                await stream.send_message(message)
            told = Told()
            async for answer in stream:
                _take(told, answer)
            await stream.cancel()
            return told

    @staticmethod
    def _pieces(data: bytes, chunks: int, trailers: bool) -> list[Any]:
        size = max(1, -(-len(data) // chunks))
        cut = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        found = []
        for number, piece in enumerate(cut, 1):
            message = ProcessingRequest()
            message.request_body.body = piece
            message.request_body.end_of_stream = number == len(cut) and not trailers
            found.append(message)
        if trailers:
            found.append(ProcessingRequest())
            found[-1].request_trailers.SetInParent()
        return found


def _take(told: Told, answer: Any) -> None:
    kind = answer.WhichOneof("response")
    told.kinds.append(kind)
    if kind == "request_headers":
        changes = answer.request_headers.response.header_mutation.set_headers
        told.headers = {one.header.key: one.header.raw_value.decode() for one in changes}
        told.removed = list(answer.request_headers.response.header_mutation.remove_headers)
        told.metadata = MessageToDict(answer.dynamic_metadata)
    elif kind == "request_body":
        sent = answer.request_body.response.body_mutation.streamed_response
        told.body += sent.body
        told.ends = sent.end_of_stream
    elif kind == "immediate_response":
        said = answer.immediate_response
        told.status, told.body = said.status.code, said.body
        told.headers = {one.header.key: one.header.raw_value.decode() for one in said.headers.set_headers}


@dataclass
class Picking:
    fleet: Fleet
    served: Served
    server: PickerServer
    gateway: Gateway

    async def counted(self) -> dict[str, int]:
        """Results that were counted, those that were not left out."""
        async with self.served.session.get(f"{self.served.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = (
            one.partition('requests_total{result="')[2] for one in lines if one.startswith("lora_operator_picker_")
        )
        counts = {one.partition('"')[0]: int(float(one.rpartition(" ")[2])) for one in found if one}
        return {name: count for name, count in counts.items() if count}


@asynccontextmanager
async def picking(fleet: Fleet, asking: Any = None, **settings: Any) -> AsyncIterator[Picking]:
    """`settings`: of the router, those of the picker without their prefix."""
    chosen = {f"picker_{name}": value for name, value in ({"drain_seconds": 0.0} | settings).items()}
    async with served(fleet, asking=asking) as api:
        server = await start_picker(
            replace(RouterSettings(), host="127.0.0.1", **chosen), api.api, fleet.table, fleet.cluster
        )
        gateway = Gateway(server.port)
        try:
            yield Picking(fleet, api, server, gateway)
        finally:
            gateway.channel.close()
            await server.stop()
