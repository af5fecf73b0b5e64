"""Puts the library together, and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from lora_library.cluster.adapters import Adapters
from lora_library.cluster.cache_stats import CacheStats
from lora_library.cluster.publisher import Publisher
from lora_library.cluster.resources import Template
from lora_library.cluster.uses import Uses
from lora_library.counting import Fullness, UploadCounts
from lora_library.database import Database
from lora_library.identity.oidc import Oidc, Provider
from lora_library.identity.token_file import TokenFile
from lora_library.identity.token_review import TokenReview
from lora_library.identity.verifying import Identity, Verifier
from lora_library.metrics import LibraryMetrics
from lora_library.model import Limits
from lora_library.receiving.checking import BaseModels
from lora_library.receiving.pace import Pace
from lora_library.scanning import Scanner
from lora_library.settings import LibrarySettings, base_model_files, pairs
from lora_library.stores.base import Store, StoreError
from lora_library.stores.opening import open_store
from lora_library.sweeper import Sweeper
from lora_library.uploads import Uploads
from lora_library.web.app import application
from lora_library.web.context import Library
from lora_library.web.sending import Downloads
from lora_library.web.serving import Server
from lora_operator.artifacts import BaseModelShape
from lora_operator.kube.client import Kube
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.process.components import supervise
from lora_operator.process.listening import open_port
from lora_operator.settings.options import SettingsError
from lora_operator.telemetry.server import ServeError, serve_metrics

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The database or the store cannot be used; the message says why."""


@dataclass(frozen=True)
class Parts:
    library: Library
    sweeper: Sweeper
    scanner: Scanner | None = None


def limits_of(settings: LibrarySettings) -> Limits:
    return Limits(
        settings.quota_bytes, settings.quota_adapters, settings.upload_bytes, settings.versions,
        settings.restore_days * 86400,
    )  # fmt: skip


def store_of(settings: LibrarySettings) -> Store:
    return open_store(
        settings.store, endpoint=settings.store_endpoint, region=settings.store_region, seen_at=settings.store_seen_at
    )


@contextlib.asynccontextmanager
async def built(settings: LibrarySettings) -> AsyncIterator[Parts]:
    """Raises CannotStart, SettingsError, KubeError."""
    async with contextlib.AsyncExitStack() as stack:
        database = await opened(settings)
        stack.push_async_callback(database.close)
        store = store_of(settings)
        try:
            await asyncio.to_thread(store.check)
        except StoreError as error:
            raise CannotStart(f"the store cannot be used: {error}") from None
        kube = None
        if settings.cluster or settings.token_review:
            kube = await Kube.connect(settings.kubeconfig)
            stack.push_async_callback(kube.close)
        namespace = own_namespace(settings.namespace)
        adapters = Adapters(kube, namespace) if kube is not None and settings.cluster else None
        uses = None
        if kube is not None and settings.cluster:
            uses = Uses(kube, database, namespace, own_namespace(settings.requests_namespace))
        template = Template(
            namespace, settings.credentials_secret, settings.base_model_check, pairs(settings.pod_selectors)
        )
        limits = limits_of(settings)
        publisher = Publisher(database, store, adapters, template)
        scanner = None
        if settings.scan_url:
            scanner = Scanner(
                database, store, lambda subject: uploads.tell(subject), settings.scan_url, token=settings.scan_token,
                seconds=settings.scan_seconds,
            )  # fmt: skip
        pace = Pace(settings.stall_seconds, settings.upload_rate / 8, settings.upload_rate)
        uploads = Uploads(
            database, store, publisher, limits, base_models_of(settings), Path(settings.work_folder),
            at_once=settings.uploads, at_once_each=settings.uploads_each, pace=pace,
            work_bytes=settings.work_bytes * 19 // 20,
            scan=None if scanner is None else scanner.notice,
        )  # fmt: skip
        stack.push_async_callback(uploads.finish)
        uploads.empty_work()
        identity = Identity(_verifiers(settings, kube), frozenset(settings.admin_groups))
        metrics = LibraryMetrics()
        counts = UploadCounts(metrics, adapters)
        stack.callback(counts.close)
        library = Library(
            database, store, uploads, identity, limits, metrics, counts, adapters,
            tuple(base_model_files(settings.base_models)), uses, settings.gateway,
            downloads=Downloads(settings.downloads, settings.downloads_each, pace), public_url=settings.public_url,
            cache_stats=None if kube is None or adapters is None else CacheStats(kube, namespace, settings.agent_port),
        )  # fmt: skip
        sweeper = Sweeper(
            database, store, publisher, limits, period_seconds=settings.sweep_seconds,
            audit_seconds=settings.audit_days * 86400, audit_entries=settings.audit_entries,
        )  # fmt: skip
        yield Parts(library, sweeper, scanner)


async def opened(settings: LibrarySettings) -> Database:
    """The database, up to date. Raises CannotStart."""
    database = Database(settings.database)
    if database.is_sqlite:
        Path(str(database.engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    try:
        await database.migrate()
    except (SQLAlchemyError, OSError) as error:
        await database.close()
        cause = getattr(error, "orig", None) or error
        raise CannotStart(f"the database cannot be used: {type(cause).__name__}: {str(cause)[:300]}") from None
    return database


async def run_library(settings: LibrarySettings, stop: asyncio.Event) -> None:
    """Until `stop` is set.

    Raises:
        ServeError: a port is taken.
        CannotStart, SettingsError, KubeError: as `built`.
        ComponentExited: what must not end did.
    """
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(built(settings))
        if settings.metrics_port:
            runner = await serve_metrics(settings.host, settings.metrics_port, parts.library.metrics)
            stack.push_async_callback(runner.cleanup)
        try:
            port = open_port(settings.host, settings.port)
        except OSError as error:
            raise ServeError(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
        server = Server(application(parts.library))
        serving = asyncio.create_task(server.run_on(port), name="web server")
        working = [asyncio.create_task(parts.sweeper.run(), name="sweeper")]
        if parts.scanner is not None:
            working.append(asyncio.create_task(parts.scanner.run(), name="scanner"))
        fullness = Fullness(parts.library.database, parts.library.limits, parts.library.metrics)
        working.append(asyncio.create_task(fullness.run(), name="counter of quotas"))
        if (uses := parts.library.uses) is not None:
            working.append(asyncio.create_task(uses.run(), name="reader of uses"))
        stopping = asyncio.create_task(stop.wait(), name="stop flag")
        log.info("library on port %d", settings.port)
        done, _ = await asyncio.wait((serving, *working, stopping), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        for task in (*working, stopping):
            task.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        supervise((serving, *working), done)


def base_models_of(settings: LibrarySettings) -> BaseModels:
    """Raises SettingsError."""
    shapes: dict[str, BaseModelShape | None] = {}
    for name, path in base_model_files(settings.base_models).items():
        try:
            shapes[name] = None if path is None else BaseModelShape.from_config(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"--base-model {name}: {error}") from error
        if path is not None and shapes[name] is None:
            log.warning("the architecture in %s is not known: shapes of adapters of %s go unchecked", path, name)
    return BaseModels(shapes, settings.base_model_check == "Name")


def _verifiers(settings: LibrarySettings, kube: Kube | None) -> list[Verifier]:
    found: list[Verifier] = []
    if settings.token_file:
        log.warning("tokens of a file are taken: this is for development")
        found.append(TokenFile(Path(settings.token_file)))
    if settings.oidc_issuer:
        found.append(
            Oidc(
                Provider(
                    settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url,
                    settings.oidc_subject_claim, settings.oidc_groups_claim, settings.oidc_subject_prefix,
                )
            )
        )  # fmt: skip
    if settings.token_review and kube is not None:
        found.append(TokenReview(kube, settings.token_review_audience))
    return found
