"""The picker's gRPC server: the external processor, the health service that gateways look at, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import BaseTransport
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from grpclib.const import Cardinality, Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health
from grpclib.protocol import EventsProcessor, H2Protocol
from grpclib.server import Server
from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from lora_operator.informers.cache import Cluster
from lora_operator.picking.automatic import Automatic
from lora_operator.picking.base_models import Bases
from lora_operator.picking.callers import Callers
from lora_operator.picking.choosing import Choosing
from lora_operator.picking.exchange import Exchange
from lora_operator.picking.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from lora_operator.picking.request_body import Limits
from lora_operator.picking.tls import Transport
from lora_operator.process.certificates import BadCertificate
from lora_operator.process.listening import open_port
from lora_operator.router.api import RouterApi
from lora_operator.router.settings import RouterSettings
from lora_operator.router.table import RoutingTable
from lora_operator.telemetry.server import ServeError

if TYPE_CHECKING:
    from grpclib._typing import IServable

log = logging.getLogger(__name__)

PROCESSOR = "envoy.service.ext_proc.v3.ExternalProcessor"
CLOSE_SECONDS = 2.0
BACKLOG = 128
MOST_STREAMS = 10_000  # on one connection; how many may wait, and how much they may hold, is limited elsewhere


class PickerServer:
    """Serves `exchange` from `start` to `stop`. `let_go` has everybody answered who waits for an adapter."""

    def __init__(self, exchange: Exchange, let_go: Callable[[], None], *, drain_seconds: float) -> None:
        self._exchange = exchange
        self._let_go = let_go
        self._drain_seconds = drain_seconds
        self._ready = ServiceStatus()
        self._ready.set(True)
        processor = _Processor(exchange)
        # the names that the endpoint picker protocol gives to what can be asked about
        checks: dict[Any, list[ServiceStatus]] = {_Named("readiness"): [self._ready], _Named("liveness"): []}
        self._server = _Serving([processor, Health({OVERALL: [self._ready], processor: [self._ready], **checks})])
        self.port = 0

    async def start(self, host: str, port: int, transport: Transport) -> None:
        """Raises ServeError."""
        logging.getLogger("grpclib").setLevel(logging.WARNING)  # it tells of each client that goes
        logging.getLogger("grpclib.server").addFilter(_is_ours)
        try:
            context = transport.context()
            opened = open_port(host, port)
        except BadCertificate as error:
            raise ServeError(str(error)) from error
        except OSError as error:
            raise ServeError(f"cannot listen on {host}:{port}: {error}; choose another --picker-port") from error
        self.port = opened.getsockname()[1]
        await self._server.start(sock=opened, ssl=context, backlog=BACKLOG)

    async def stop(self) -> None:
        """Not ready at once, but answering until gateways have noticed; then whoever waits for a load is let go."""
        self._ready.set(False)
        await asyncio.sleep(self._drain_seconds)
        self._let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._exchange.idle()
        self._server.close()
        await self._server.wait_closed()


def _is_ours(record: logging.LogRecord) -> bool:
    """Of a gateway that goes, resets or comes too late the library has a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, (TimeoutError, ConnectionError, ProtocolError, StreamTerminatedError)):
        return True
    log.debug("a gateway did not wait for its answer (%s)", type(error).__name__)
    return False


class _Events(EventsProcessor):
    """Passes over frames that it does not know, as RFC 9113 (5.5) asks; the library raises."""

    def process(self, event: Event) -> None:
        if isinstance(event, RequestReceived) and b":path" not in {_raw(name) for name, _ in event.headers or ()}:
            self.connection._connection.reset_stream(event.stream_id or 0, ErrorCodes.PROTOCOL_ERROR)
            return
        try:
            super().process(event)
        except NotImplementedError:
            log.debug("a gateway sent a frame that is not known (%s)", type(event).__name__)


def _raw(name: bytes | str) -> bytes:
    return name.encode() if isinstance(name, str) else name


class _Protocol(H2Protocol):
    """Takes more requests on one connection than the 100 that the library does. A gateway that opens one for a burst
    does not know the limit yet, and a request beyond it ends the connection with all the others."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        wire = self.connection._connection
        wire.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS})
        wire.local_settings.acknowledge()  # from now on, not from when the gateway has heard of it
        self.connection.flush()
        self.processor = _Events(self.handler, self.connection)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except (ProtocolError, UnicodeDecodeError) as error:  # the library expects them, but not everywhere
            log.debug("a gateway broke HTTP/2 (%s)", type(error).__name__)
            self.processor.close("Protocol error")

    def hang_up(self) -> None:
        """Say so first: then it is no broken connection to the gateway. One whose TLS has not begun knows of none."""
        if getattr(self, "connection", None) is not None and not self.connection.is_closing():
            self.connection._connection.close_connection()
            self.connection.flush()
            self.connection.close()


class _Serving(Server):
    """Also closes connections that are open, where the library leaves them to whoever opened them."""

    def __init__(self, handlers: Collection[IServable]) -> None:
        super().__init__(handlers)
        self._open = WeakSet[_Protocol]()

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        protocol = _Protocol(made.handler, made.config, made.h2_config)
        self._open.add(protocol)
        return protocol

    def close(self) -> None:
        super().close()
        for protocol in [*self._open]:
            protocol.hang_up()


class _Named:
    """What health can be asked about beside services."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __mapping__(self) -> dict[str, Any]:
        return {f"/{self._name}/": None}


class _Processor:
    """The service, as generated code would describe it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __mapping__(self) -> dict[str, Handler]:
        kind = Cardinality.STREAM_STREAM
        return {f"/{PROCESSOR}/Process": Handler(self._exchange.process, kind, ProcessingRequest, ProcessingResponse)}


async def start_picker(settings: RouterSettings, api: RouterApi, table: RoutingTable, cluster: Cluster) -> PickerServer:
    """Beside a router API whose table is there. On any free port if `picker_port` is 0. Raises ServeError."""
    bases = Bases(cluster, api.picker)
    automatic = Automatic(
        settings.picker_auto_model, settings.picker_auto_default, table, bases, api.selector,
        lambda method, found: api.metrics.selected(method, adapter=found),
    )  # fmt: skip
    choosing = Choosing(
        table, api.decider, bases, automatic, wait_seconds=settings.picker_wait_seconds,
        endpoints=settings.picker_endpoints,
    )  # fmt: skip
    limits = Limits(settings.picker_body_bytes)
    callers = Callers(
        settings.picker_owner_claim, settings.picker_keys, settings.picker_shared_owners, settings.picker_owner_prefix
    )
    exchange = Exchange(
        choosing, settings.picker_namespace, limits, api.metrics.registry, callers,
        prompts=api.picker.prefixes.on, session_header=settings.session_header.lower(),
        automatic=settings.picker_auto_model,
    )  # fmt: skip
    server = PickerServer(exchange, api.decider.stop, drain_seconds=settings.picker_drain_seconds)
    transport = Transport(settings.picker_tls_cert, settings.picker_tls_key, settings.picker_self_signed)
    await server.start(settings.host, settings.picker_port, transport)
    log.info("endpoint picker on port %d", server.port)
    return server
