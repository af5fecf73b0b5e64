"""Adapters in repositories of the Hugging Face hub, or of a mirror that speaks as it does.

All files of a look are of one commit. While the commit stays the same, a look is one request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import FetchFile, FetchManifest
from lora_operator.fetch.session import origin
from lora_operator.sources.base import Resolution, SourceError, SourceRequest
from lora_operator.sources.credential_hosts import bearer_of
from lora_operator.sources.http_client import Answer, HttpClient, Patience, refusal
from lora_operator.sources.http_links import link_to
from lora_operator.sources.http_ranges import read_range
from lora_operator.sources.huggingface_errors import HubRefused, hub_refusal
from lora_operator.sources.huggingface_files import HubRepository, fits_base, folders_of
from lora_operator.sources.remote import RemoteFolder, asked_for, changed, check_number, noted_file, resolve_folders
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_threads import Threads
from lora_operator.sources.remote_tree import without_duplicates
from lora_operator.sources.remote_troubles import Marked, Trouble, merged, unchanged

if TYPE_CHECKING:
    from lora_operator.sources.huggingface_sdk import HubSdk

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_FILES = 20_000
MAX_REPOSITORIES = 5_000
MAX_INLINE_BYTES = 10 << 20  # what the hub keeps in git itself is no larger
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)  # other hubs count in sha256


@dataclass(frozen=True, slots=True)
class _Listed:
    """One repository at one commit, and the folders of its adapters."""

    commit: str
    folders: tuple[RemoteFolder, ...]


class HuggingFaceSource:
    """Reads org/repo, or all PEFT repositories of an org that are tagged for the base model.

    `endpoint` is used where a resource names none (default: HF_ENDPOINT, else the hub itself). Only a token of the
    resource's own Secret is ever sent, and only to the endpoint. `clock` gives Unix time.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        rules: HostRules | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        self._rules = rules
        self._patience = patience
        self._clock = clock
        self._threads = Threads("huggingface")

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`."""
        async with self._hub(request) as hub:
            repositories = await hub.repositories()
            commits = {each.repository: each.commit for each in repositories}
            known = previous.mark if isinstance(previous, Marked) else None
            listed: dict[str, _Listed] = dict(known) if isinstance(known, Mapping) else {}
            if previous is not None and commits == {name: each.commit for name, each in listed.items()}:
                same = unchanged(previous, known)
                if same is not None:
                    return same
            listed, troubles = await hub.listings(commits, listed)
            folders, duplicates = without_duplicates(
                folder for name in sorted(listed) for folder in asked_for(listed[name].folders, request.adapters)
            )
            found = await resolve_folders(folders, _Reader(hub, commits), request, previous, now=self._clock())
            mark = listed if not troubles else None
            return merged(found, [*troubles, *duplicates], request, previous, mark)

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> FetchManifest:
        """See `Source`: the weights as a link that the hub signs, without the token; what git holds is read here."""
        config, weights = noted_file(found, CONFIG_FILE), noted_file(found, WEIGHTS_FILE)
        repository = "/".join(found.location.split("/")[:2])
        async with self._hub(request) as hub:
            try:
                commit, file = await hub.weights_now(repository, found, weights)
                raw = await hub.read(repository, commit, found.location, config, 0, config.size_bytes)
            except AdapterRefused:
                raise changed(found.name) from None
        if hashlib.sha256(raw).hexdigest() != config.sha256:
            raise changed(found.name)
        inline = FetchFile(CONFIG_FILE, len(raw), config.sha256, inline=raw)
        return FetchManifest(found.name, found.fingerprint, (inline, file))

    @asynccontextmanager
    async def _hub(self, request: SourceRequest) -> AsyncIterator[_Hub]:
        endpoint = (request.endpoint or self._endpoint).rstrip("/")
        secret = bearer_of(request, endpoint, (self._endpoint,))
        async with HttpClient(endpoint, secret, rules=self._rules, patience=self._patience) as client:
            # the first import takes half a second
            sdk_module = await asyncio.to_thread(import_module, "lora_operator.sources.huggingface_sdk")
            sdk: HubSdk = sdk_module.HubSdk(client, endpoint, self._threads)
            yield _Hub(sdk, client, endpoint, request)


class _Hub:
    """One round of questions for one request."""

    def __init__(self, sdk: HubSdk, client: HttpClient, endpoint: str, request: SourceRequest) -> None:
        self._sdk = sdk
        self._client = client
        self._endpoint = endpoint
        self._request = request

    async def repositories(self) -> list[HubRepository]:
        """The repositories that the request means, at their present commits. Raises SourceError."""
        request, name = self._request, self._request.repository
        try:
            if "/" in name:
                repositories = [HubRepository(name, await self._sdk.commit(name, request.revision))]
            else:
                repositories = await self._sdk.repositories(name, MAX_REPOSITORIES + 1)
        except HubRefused as error:
            raise self._refusal(name, error.answer) from None
        if len(repositories) > MAX_REPOSITORIES:
            raise SourceError(
                "TooManyRepositories",
                f"huggingface organisation {name[:200]!r} has more than {MAX_REPOSITORIES} PEFT repositories: name "
                "single ones",
                retryable=False,
            )
        for each in repositories:
            if not _COMMIT.fullmatch(each.commit) or each.repository.count("/") != 1:
                raise self._no_hub()
        if "/" in name:
            return repositories
        fitting = [each for each in repositories if fits_base(each, request)]
        check_number(len(fitting), request)
        return fitting

    async def listings(
        self, commits: Mapping[str, str], known: Mapping[str, _Listed]
    ) -> tuple[dict[str, _Listed], list[Trouble]]:
        """The folders of each repository, listed anew where the commit is not the known one.

        Of several repositories, those that cannot be listed become troubles. Raises SourceError for a single one.
        """
        listed: dict[str, _Listed] = {}
        troubles: list[Trouble] = []

        async def list_one(repository: str, commit: str) -> None:
            before = known.get(repository)
            if before is not None and before.commit == commit:
                listed[repository] = before
                return
            try:
                listed[repository] = _Listed(commit, await self._folders(repository, commit))
            except SourceError as error:
                if len(commits) == 1:
                    raise
                name = repository.rpartition("/")[2]
                troubles.append(Trouble(name, error.reason, error.message, error.retryable))

        await asyncio.gather(*(list_one(repository, commit) for repository, commit in commits.items()))
        return listed, troubles

    async def _folders(self, repository: str, commit: str) -> tuple[RemoteFolder, ...]:
        try:
            files = await self._sdk.files(repository, commit, MAX_FILES + 1)
        except HubRefused as error:
            raise self._refusal(repository, error.answer) from None
        if len(files) > MAX_FILES:
            raise SourceError(
                "TooManyFiles",
                f"huggingface repository {repository[:200]!r} has more than {MAX_FILES} files: put the adapters into a "
                "repository of their own",
                retryable=False,
            )
        return folders_of(repository, files, self._endpoint)

    async def read(self, repository: str, commit: str, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of a file of that commit. Raises SourceError and AdapterRefused."""
        if begin >= end:
            return b""
        url = self._sdk.url(repository, _path(location, file), commit)
        return await read_range(self._client, url, file, begin, end, lambda answer: self._refusal(repository, answer))

    async def weights_now(self, repository: str, found: FoundAdapter, file: RemoteFile) -> tuple[str, FetchFile]:
        """The present commit and where the weights can be had. Raises SourceError (SourceChanged) for other weights."""
        path = _path(found.location, file)
        try:
            place = await self._sdk.place(repository, path, self._request.revision or "main")
        except HubRefused as error:
            if error.answer.headers.get("x-error-code") in ("EntryNotFound", "RevisionNotFound"):
                raise changed(found.name) from None
            raise self._refusal(repository, error.answer) from None
        if not _COMMIT.fullmatch(place.commit):
            raise self._no_hub()
        if place.mark not in (file.sha256 or None, file.tag.removeprefix("git:")):
            raise changed(found.name)
        url = place.url
        if origin(url) == origin(self._endpoint):  # this hub leads on nobody who only asks where the file is
            url = self._sdk.url(repository, path, place.commit)
        is_small = file.size_bytes <= MAX_INLINE_BYTES
        link = None if is_small and not file.sha256 else await link_to(self._client, url, time.time())
        if is_small and (link is None or link.shows_secret):
            raw = await self.read(repository, place.commit, found.location, file, 0, file.size_bytes)
            return place.commit, FetchFile(file.path, len(raw), _checked(found, file, raw), inline=raw)
        return place.commit, FetchFile(file.path, file.size_bytes, file.sha256, link=link)

    def _refusal(self, repository: str, answer: Answer) -> SourceError:
        if origin(answer.url) != origin(self._endpoint):
            return refusal(answer.url, max(answer.status, 500), answer.headers, has_secret=False)
        return hub_refusal(repository, self._request.revision, answer, has_token=self._client.has_secret)

    def _no_hub(self) -> SourceError:
        return SourceError(
            "BadAnswer",
            "the endpoint does not answer like a Hugging Face hub: correct the endpoint",
            retryable=False,
        )


class _Reader:
    """Reads files of the commits of one round (see `StoreReader`)."""

    def __init__(self, hub: _Hub, commits: Mapping[str, str]) -> None:
        self._hub = hub
        self._commits = commits

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        """The list told everything."""
        return file

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `StoreReader`."""
        repository = "/".join(location.split("/")[:2])
        return await self._hub.read(repository, self._commits[repository], location, file, begin, end)


def _path(location: str, file: RemoteFile) -> str:
    """The file's path in its repository."""
    return "/".join([*location.split("/")[2:], file.path])


def _checked(found: FoundAdapter, file: RemoteFile, raw: bytes) -> str:
    """The sha256 of what was read, once it is known to be the file that was checked."""
    sha256 = hashlib.sha256(raw).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
    if sha256 != file.sha256 and f"git:{blob}" != file.tag:
        raise changed(found.name)
    return sha256
