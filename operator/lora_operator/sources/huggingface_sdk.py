"""The official client of the Hugging Face hub, over the connections of `HttpClient`.

To be imported only once such a source is asked for: the client takes memory and time to import. Its requests go through
`HttpClient`, so that hosts are checked, answers bounded, nothing is retried behind our back, and no token is with it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, set_client_factory
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile

from lora_operator.fetch.session import MAX_REDIRECTS
from lora_operator.sources.base import SourceError
from lora_operator.sources.http_client import HttpClient
from lora_operator.sources.huggingface_errors import HubRefused
from lora_operator.sources.huggingface_files import HubFile, HubPlace, HubRepository
from lora_operator.sources.remote_threads import Threads, quiet

MAX_ANSWER_BYTES = 32 << 20
_OURS = frozenset({"host", "connection", "accept-encoding", "authorization", "cookie"})
_NOT_FOR_IT = frozenset({"set-cookie", "content-encoding", "transfer-encoding"})
_T = TypeVar("_T")


class HubSdk:
    """What is asked of one hub. All methods raise HubRefused and SourceError."""

    def __init__(self, client: HttpClient, endpoint: str, threads: Threads) -> None:
        _use_our_connections()
        self._endpoint = endpoint
        self._api = HfApi(endpoint=endpoint, token=False)
        self._threads = threads
        self._context = contextvars.copy_context()
        self._context.run(_connections.set, (client, asyncio.get_running_loop()))

    def url(self, repository: str, path: str, commit: str) -> str:
        """Where the content of a file begins."""
        return hf_hub_url(repository, path, revision=commit, endpoint=self._endpoint)

    async def commit(self, repository: str, revision: str | None) -> str:
        """The commit that a revision means now."""
        info = await self._run(lambda: self._api.model_info(repository, revision=revision, expand=["sha"]))
        return str(info.sha)

    async def files(self, repository: str, commit: str, at_most: int) -> list[HubFile]:
        """All files of a commit, but not more than `at_most`."""

        def listed() -> list[HubFile]:
            tree = self._api.list_repo_tree(repository, recursive=True, revision=commit)
            files = (item for item in tree if isinstance(item, RepoFile))
            return [
                HubFile(str(file.path), int(file.size), str(file.blob_id), str(file.lfs.sha256) if file.lfs else "")
                for file in islice(files, at_most)
            ]

        return await self._run(listed)

    async def repositories(self, owner: str, at_most: int) -> list[HubRepository]:
        """The PEFT repositories of a user or organisation, but not more than `at_most`."""

        def listed() -> list[HubRepository]:
            models = self._api.list_models(author=owner, filter="peft", expand=["sha", "tags"])
            return [
                HubRepository(str(model.id), str(model.sha), tuple(map(str, model.tags or ())))
                for model in islice(models, at_most)
            ]

        return await self._run(listed)

    async def place(self, repository: str, path: str, revision: str) -> HubPlace:
        """Where a file is served from now, which for large files is a signed URL of another host."""
        url = self.url(repository, path, revision)
        found = await self._run(lambda: get_hf_file_metadata(url, token=False, endpoint=self._endpoint))
        return HubPlace(str(found.commit_hash), str(found.etag), str(httpx2.URL(url).join(found.location)))

    async def _run(self, call: Callable[[], _T]) -> _T:
        try:
            return await self._threads.run(lambda: self._context.copy().run(call))
        except (SourceError, HubRefused):
            raise
        except Exception as error:
            problem = _unexpected(error)
        # outside of the handler: what was caught may carry URLs, and would be the context of this
        raise problem


def _unexpected(error: Exception) -> SourceError:
    if isinstance(error, HFValidationError):
        return SourceError(
            "RepositoryNotFound", "no repository can have this name: write org/repo or org", retryable=False
        )
    if isinstance(error, httpx2.TooManyRedirects):
        return SourceError(
            "RedirectLoop",
            f"the hub redirects in circles or more than {MAX_REDIRECTS} times: correct the endpoint",
            retryable=False,
        )
    return SourceError(
        "BadAnswer",
        f"the endpoint does not answer like a Hugging Face hub ({type(error).__name__}): correct the endpoint",
        retryable=False,
    )


_connections: contextvars.ContextVar[tuple[HttpClient, asyncio.AbstractEventLoop]] = contextvars.ContextVar(
    "_connections"
)


class _Transport(httpx2.BaseTransport):
    """Sends a request of the hub's client with the HttpClient of the calling context."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        client, loop = _connections.get()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        asked = client.ask(request.method, str(request.url), headers, limit_bytes=MAX_ANSWER_BYTES, follow=False)
        answer = asyncio.run_coroutine_threadsafe(asked, loop).result()
        if answer.status >= 400:
            raise HubRefused(answer)
        kept = {name: value for name, value in answer.headers.items() if name not in _NOT_FOR_IT}
        return httpx2.Response(answer.status, headers=kept, content=answer.body, request=request)


@cache
def _use_our_connections() -> None:
    quiet(["httpx2"])
    set_client_factory(
        lambda: httpx2.Client(
            transport=_Transport(), follow_redirects=True, max_redirects=MAX_REDIRECTS, trust_env=False
        )
    )
