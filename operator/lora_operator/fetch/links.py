"""The links of one fetch, renewed when they run out while the fetch is under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import FetchManifest, Link

Renew = Callable[[], Awaitable[FetchManifest]]


class Links:
    """Gives the link of a file as it is now. `renew` is asked for a whole new order."""

    def __init__(self, order: FetchManifest, renew: Renew | None, limits: Limits, clock: Callable[[], float]) -> None:
        self._order = order
        self._renew = renew
        self._limits = limits
        self._clock = clock

    @property
    def renewable(self) -> bool:
        """Whether `renew` can be called."""
        return self._renew is not None

    async def current(self, path: str | None) -> Link:
        """The link of the file at `path` (None: the archive). Renewed first if it ends soon."""
        if self._ends_within(_link(self._order, path), self._limits.renew_before_seconds):
            await self.renew()
        link = _link(self._order, path)
        if self._ends_within(link, 0.0):
            raise FetchError(
                "LinkExpired", f"the link to {path or 'the archive'} has run out: ask for a new order", retryable=True
            )
        return link

    async def renew(self) -> None:
        """Get fresh links, where somebody gives them. Raises FetchError (SourceChanged) where the new order is for
        other content, and what `renew` does."""
        if self._renew is None:
            return
        order = await self._renew()
        if _content(order) != _content(self._order):
            raise FetchError(
                "SourceChanged",
                f"{self._order.name} is not at its source any more as it was inspected: it is read again",
                retryable=True,
            )
        self._order = order

    def _ends_within(self, link: Link, seconds: float) -> bool:
        return link.expires_at is not None and link.expires_at - self._clock() <= seconds


def _link(order: FetchManifest, path: str | None) -> Link:
    if path is None:
        link = order.archive.link if order.archive is not None else None
    else:
        link = next((file.link for file in order.files if file.path == path), None)
    if link is None:
        raise FetchError(
            "OrderInvalid", f"{order.name}: {path or 'the archive'} comes without a link: a defect", retryable=False
        )
    return link


def _content(order: FetchManifest) -> object:
    files = tuple((file.path, file.size_bytes, file.sha256, file.link and file.link.tag) for file in order.files)
    return order.name, order.fingerprint, files, order.archive and (order.archive.kind, order.archive.folder)
