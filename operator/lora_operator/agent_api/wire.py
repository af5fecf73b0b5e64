"""The bodies that operator and agent exchange, checked at the edge. The paths:

    PUT    /v1/adapters/{name}/{fingerprint}?wait=S   fetch it, unless it is there (body: OrderBody); safe to repeat.
                                                      Answers after S seconds, earlier if it ends or wants links
    GET    /v1/adapters/{name}/{fingerprint}          how far it is (EntryBody), 404 if nobody asked for it
    DELETE /v1/adapters/{name}/{fingerprint}          remove it; 409 while it is loaded, pinned or being fetched
    PUT    /v1/adapters/{name}/{fingerprint}/pin      keep it whatever happens; DELETE takes that back
    GET    /v1/adapters                               everything on the disk (ListBody)
    PUT    /v1/loaded                                 what the engine has or is about to get (LoadedBody)
    PUT    /v1/readiness                              whether the engine has what is planned (ReadinessBody, OpenBody);
                                                      an agent that does not know this call was always open
    DELETE /v1/holders/{namespace}/{name}             that pod is gone, and has nothing loaded any more
    GET    /v1/statistics                             hits, misses, evictions, bytes
    GET    /healthz, /readyz, /metrics                without a token

Every other request carries `Authorization: Bearer <token>`, or the token alone in the header X-Lora-Agent-Token where
something on the way keeps the first for itself, as the API server's proxy does.
A failure is answered with a ProblemBody.
"""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lora_operator.artifacts.names import valid_adapter_name
from lora_operator.fetch.manifest import Archive, ArchiveKind, FetchFile, FetchManifest, Link

MAX_BODY_BYTES = 48 << 20  # a config of 1 MiB and a header that travel inline, base64, with room to spare
MAX_WAIT_SECONDS = 30.0
TOKEN_HEADER = "X-Lora-Agent-Token"  # noqa: S105 - the name of a header
MAX_LOADED = 100_000
MOST_EVICTED = 1000
MOST_HOLDERS = 1000

Name = Annotated[str, Field(min_length=1, max_length=128)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Holder = Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")]
Size = Annotated[int, Field(ge=0, le=1 << 50)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Body(BaseModel):
    """camelCase on the wire; unknown fields are refused, so that a misspelt one is not silently without effect."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


class LinkBody(Body):
    """Holds secrets: never shown."""

    url: Annotated[str, Field(max_length=16_384, repr=False)]
    headers: Annotated[dict[str, str], Field(default_factory=dict, max_length=16, repr=False)]
    expires_at: float | None = None
    tag: Annotated[str, Field(max_length=1024)] = ""

    def to_link(self) -> Link:
        return Link(self.url, dict(self.headers), self.expires_at, self.tag)


class FileBody(Body):
    path: Annotated[str, Field(min_length=1, max_length=255)]
    size_bytes: Size
    sha256: Digest = ""
    inline: Annotated[Base64Bytes | None, Field(repr=False)] = None
    link: LinkBody | None = None


class ArchiveBody(Body):
    link: LinkBody
    kind: ArchiveKind
    folder: Annotated[str, Field(max_length=4096)] = ""
    size_bytes: Size | None = None


class OrderBody(Body):
    """What to fetch. `prefetch`: nobody loads it yet, so that it goes first where room is needed."""

    files: Annotated[tuple[FileBody, ...], Field(min_length=1, max_length=16)]
    archive: ArchiveBody | None = None
    prefetch: bool = False

    @classmethod
    def of(cls, order: FetchManifest, *, prefetch: bool) -> OrderBody:
        """What to send for `order`."""
        return cls(
            files=tuple(
                FileBody(
                    path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, link=_link(file.link),
                    # base64: the validator decodes what it is given
                    inline=None if file.inline is None else base64.b64encode(file.inline),
                )
                for file in order.files
            ),
            archive=None if order.archive is None else ArchiveBody.model_validate(
                {"link": _link(order.archive.link), "kind": order.archive.kind, "folder": order.archive.folder,
                 "size_bytes": order.archive.size_bytes}
            ),
            prefetch=prefetch,
        )  # fmt: skip

    def to_order(self, name: str, fingerprint: str) -> FetchManifest:
        """The order for this version. Raises InvalidAdapterName."""
        valid_adapter_name(name)
        archive = self.archive
        return FetchManifest(
            name,
            fingerprint,
            tuple(
                FetchFile(f.path, f.size_bytes, f.sha256, f.inline, f.link.to_link() if f.link else None)
                for f in self.files
            ),
            None
            if archive is None
            else Archive(archive.link.to_link(), archive.kind, archive.folder, archive.size_bytes),
        )


class EntryBody(Body):
    """One version on the agent's disk or on its way there. Times are Unix time.

    The answer to an order tells neither pin nor last use: a GET does.
    `wants_links`: those of the order have run out; the fetch waits for the same order with fresh ones.
    """

    name: Name
    fingerprint: Fingerprint
    state: Literal["Present", "Fetching", "Failed"]
    size_bytes: Size
    done_bytes: Size
    pinned: bool = False
    loaded: bool = False
    prefetched: bool = False
    wants_links: bool = False
    last_used: float | None = None
    problem: ProblemBody | None = None


class ProblemBody(Body):
    """Why something did not work; `message` says what, where and what to do."""

    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2048)]
    retryable: bool = False
    retry_after_seconds: float | None = None


class VersionBody(Body):
    name: Name
    fingerprint: Fingerprint


class ListBody(Body):
    entries: tuple[EntryBody, ...]
    used_bytes: Size
    budget_bytes: Size | None = None


class LoadedBody(Body):
    """All versions that the engine has or is about to get: their files stay. Those of `pinned` stay as well."""

    versions: Annotated[tuple[VersionBody, ...], Field(max_length=MAX_LOADED)]
    pinned: Annotated[tuple[VersionBody, ...], Field(max_length=MAX_LOADED)] = ()


class ReadinessBody(Body):
    """Whether the pod may take traffic as far as its adapters go: they are loaded, or cannot be. `container` is the id
    of the engine's container that this is about; `message` says what it has, or waits for.
    """

    container: Annotated[str, Field(min_length=1, max_length=512)]
    open: bool
    message: Annotated[str, Field(max_length=2048)] = ""


class OpenBody(Body):
    """Whether /readyz says yes by now."""

    open: bool


class EvictedBody(VersionBody):
    """A version that was removed; `why` as in `cache.victims.Why`."""

    size_bytes: Size
    why: Annotated[str, Field(max_length=64)]


class HeldBody(Body):
    """Those of them that are there; the others must not be loaded. `evicted` since this was asked before. `holders`
    are the pods ("namespace/name") whose loaded versions are kept on this disk, those of other agents included.
    """

    versions: Annotated[tuple[VersionBody, ...], Field(max_length=MAX_LOADED)]
    evicted: Annotated[tuple[EvictedBody, ...], Field(max_length=MOST_EVICTED)] = ()
    holders: Annotated[tuple[Holder, ...], Field(max_length=MOST_HOLDERS)] = ()


def _link(link: Link | None) -> LinkBody | None:
    if link is None:
        return None
    return LinkBody(url=link.url, headers=dict(link.headers), expires_at=link.expires_at, tag=link.tag)
