"""Asks a library. What it refuses becomes an error that says what to do."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from lora_operator import __version__
from lora_operator.plugin.problems import PluginError
from lora_operator.terminal.access import LOGIN_HINT, Access

ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 20.0
UPLOADED_SECONDS = 600.0  # to check and store what has come
MOST_BYTES = 64 << 20  # of an answer
Json = dict[str, Any]
# what one can do beyond what the answer says
HINTS: Mapping[str, str] = {
    "UNAUTHENTICATED": LOGIN_HINT,
    "QUOTA_EXCEEDED": "`lora quota` shows what you have, `lora rm --purge` frees it",
    "LORA_NOT_FOUND": "`lora list` shows what there is",
    "UNKNOWN_BASE_MODEL": "choose one with --base-model",
    "NAME_TAKEN": "choose another with --name",
    "INVALID_NAME": "choose another with --name",
}
FAILED, UNREACHABLE, REFUSED, NOT_THERE = 1, 3, 4, 5  # exit statuses


class LibraryError(PluginError):
    """`code` as the library has it; "" where it gave none."""

    def __init__(self, message: str, status: int = FAILED, code: str = "") -> None:
        super().__init__(message, status)
        self.code = code


class Client:
    """To be entered. Raises LibraryError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        headers = {"User-Agent": f"lora/{__version__}"}
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token}"
        self._session = aiohttp.ClientSession(headers=headers, trust_env=True, auto_decompress=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, *, query: Sequence[tuple[str, str]] = (), body: Json | None = None
    ) -> Json:
        """Of `/api/loras` and below."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS)
        async with self._asked(method, path, params=list(query), json=body, timeout=timeout) as answer:
            return await self._read(answer)

    async def upload(
        self, fields: Sequence[tuple[str, str]], files: Sequence[Path], sent: Callable[[int], None]
    ) -> Json:
        """`sent` is told how many bytes more have gone."""
        with contextlib.ExitStack() as stack, aiohttp.MultipartWriter("form-data") as form:
            for name, value in fields:
                form.append(value).set_content_disposition("form-data", name=name)
            for file in files:
                opened = stack.enter_context(_Counted(file, sent))
                part = form.append(opened, {"Content-Type": "application/octet-stream"})
                part.set_content_disposition("form-data", name="file", filename=file.name)
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=UPLOADED_SECONDS)
            async with self._asked("POST", "/upload", data=form, timeout=timeout) as answer:
                return await self._read(answer)

    @contextlib.asynccontextmanager
    async def _asked(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        url = f"{self._access.server}/api/loras{path}"
        try:
            # a token is for this library: it follows nobody elsewhere
            async with self._session.request(method, url, allow_redirects=False, **options) as answer:
                yield answer
        except TimeoutError:
            raise LibraryError(f"{self._access.server} did not answer in time: try again", UNREACHABLE) from None
        except (aiohttp.ClientError, OSError) as error:
            raise LibraryError(
                f"{self._access.server} cannot be asked: {str(error) or type(error).__name__}", UNREACHABLE
            ) from None

    async def _read(self, answer: aiohttp.ClientResponse) -> Json:
        raw = await answer.content.read(MOST_BYTES)
        while not answer.content.at_eof() and len(raw) < MOST_BYTES:
            raw += await answer.content.read(MOST_BYTES - len(raw))
        if answer.status == 204:
            return {}
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if answer.status < 300 and isinstance(found, dict):
            return found
        if 300 <= answer.status < 400:
            text = f"{self._access.server} sends elsewhere (HTTP {answer.status}): give the address itself as --server"
            raise LibraryError(text, UNREACHABLE)
        raise _refused(answer.status, found if isinstance(found, dict) else {}, self._access.server)


class _Counted(io.BufferedReader):
    """A file that is sent: aiohttp reads it in pieces, in a thread."""

    def __init__(self, file: Path, sent: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(file))
        self._sent = sent

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._sent(len(piece))
        return piece


def _refused(status: int, problem: Json, server: str) -> LibraryError:
    code = str(problem.get("code", ""))
    if not code:
        text = f"{server} answers HTTP {status} and no problem document: is a user library there?"
        return LibraryError(text, UNREACHABLE if status >= 500 or status == 404 else REFUSED)
    text = str(problem.get("detail", code))
    if code in HINTS:
        text += f"; {HINTS[code]}"
    kind = NOT_THERE if code == "LORA_NOT_FOUND" else UNREACHABLE if status >= 500 or status == 429 else REFUSED
    return LibraryError(f"{text} ({code})", kind, code)
