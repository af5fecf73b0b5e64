"""The picker's gRPC server: the external processor, the health service that gateways look at, and an end in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from lora_operator.observe.cluster import Cluster
from lora_operator.picking.bases import Bases
from lora_operator.picking.choosing import Choosing
from lora_operator.picking.exchange import Exchange, Limits
from lora_operator.picking.tls import BadCertificate, Transport
from lora_operator.router.api import RouterApi
from lora_operator.router.settings import RouterSettings
from lora_operator.router.table import RoutingTable
from lora_operator.server import ServeError

log = logging.getLogger(__name__)

PROCESSOR = "envoy.service.ext_proc.v3.ExternalProcessor"
READINESS = ("", "readiness", PROCESSOR)
LIVENESS = "liveness"
CHUNK_BYTES = 1 << 20  # on top of the largest body: Envoy may send one in a single piece
CLOSE_SECONDS = 2.0


class PickerServer:
    """Serves `exchange` from `start` to `stop`."""

    def __init__(self, exchange: Exchange, let_go: Callable[[], None], *, drain_seconds: float) -> None:
        """`let_go` has everybody answered who waits for an adapter."""
        self._exchange = exchange
        self._let_go = let_go
        self._drain_seconds = drain_seconds
        self._health = health.HealthServicer()
        self.port = 0

    async def start(self, host: str, port: int, transport: Transport, message_bytes: int) -> None:
        """Raises ServeError."""
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", message_bytes))
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Processor(self._exchange),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            secured = transport.credentials()
            if secured is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, secured)
        except BadCertificate as error:
            raise ServeError(str(error)) from error
        except RuntimeError as error:
            raise ServeError(f"cannot listen on {address}: {error}; choose another --picker-port") from error
        await self._server.start()
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._ready(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Not ready at once, but answering until gateways have noticed; then whoever waits for a load is let go."""
        await self._ready(health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(self._drain_seconds)
        self._let_go()
        await self._server.stop(CLOSE_SECONDS)

    async def _ready(self, status: Any) -> None:
        for name in READINESS:
            await self._health.set(name, status)


class _Processor(grpc.GenericRpcHandler):  # type: ignore[misc]
    """By hand instead of the generated base class, which has no way to say that messages are read one by one."""

    def __init__(self, exchange: Exchange) -> None:
        self._method = f"/{PROCESSOR}/Process"
        self._handler = grpc.stream_stream_rpc_method_handler(
            exchange.process, ProcessingRequest.FromString, ProcessingResponse.SerializeToString
        )

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == self._method else None


async def start_picker(settings: RouterSettings, api: RouterApi, table: RoutingTable, cluster: Cluster) -> PickerServer:
    """Beside a router API whose table is there. On any free port if `picker_port` is 0. Raises ServeError."""
    limits = Limits(body_bytes=settings.picker_body_bytes)
    choosing = Choosing(
        table, api.decider, Bases(cluster, api.picker), wait_seconds=settings.picker_wait_seconds,
        endpoints=settings.picker_endpoints,
    )  # fmt: skip
    exchange = Exchange(choosing, settings.picker_namespace, limits, api.metrics.registry)
    server = PickerServer(exchange, api.decider.stop, drain_seconds=settings.picker_drain_seconds)
    transport = Transport(settings.picker_tls_cert, settings.picker_tls_key, settings.picker_self_signed)
    await server.start(settings.host, settings.picker_port, transport, limits.body_bytes + CHUNK_BYTES)
    log.info("endpoint picker on port %d", server.port)
    return server
