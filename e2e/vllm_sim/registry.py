"""The names that the API server knows: load, unload, list. Everything here is forgotten at a restart."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from .adapter_files import AdapterNotFound, LoadRefused
from .core import EngineCore, EngineDead, LoadedAdapter
from .releases import Release

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")
_SYSTEM_PATH = re.compile(r"/(?:home|usr|opt|var|tmp|root|lib|mnt|srv)(?:/[\w.\-]+)+")
_FILE_PATH = re.compile(r"(?:/[\w\-]+)+/[\w\-]+\.\w+")


class Refused(Exception):
    """An answer other than 200: its status, type, message and, where the engine gives one, the parameter.

    `closes`: the connection is closed after the answer, without a word in its headers.
    """

    def __init__(self, status: int, kind: str, message: str, param: str | None = None, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param, self.closes = status, kind, message, param, closes


def mask_paths(message: str) -> str:
    """What vLLM's sanitize_message does to paths and addresses."""
    return _FILE_PATH.sub("<path>", _SYSTEM_PATH.sub("<path>", _ADDRESS.sub(">", message))).strip()


def error_body(refused: Refused, release: Release) -> dict[str, object]:
    """The JSON body of an error in this release's shape."""
    message = mask_paths(refused.message) if release.masks_paths else refused.message
    error = {"message": message, "type": refused.kind, "param": refused.param, "code": refused.status}
    return {"object": "error", **error} if release.flat_errors else {"error": error}


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The fields of POST /v1/load_lora_adapter that mean something."""

    name: str
    path: str
    inplace: bool = False


class Registry:
    """Adapters by name, in load order."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._release = core.settings.release
        self._adapters: list[LoadedAdapter] = []
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._last_id = 0

    @property
    def adapters(self) -> tuple[LoadedAdapter, ...]:
        """In the order of /v1/models."""
        return tuple(self._adapters)

    def find(self, name: str) -> LoadedAdapter | None:
        """The adapter called `name`."""
        return next((a for a in self._adapters if a.name == name), None)

    def resolve(self, model: str | None) -> LoadedAdapter | None:
        """Which adapter answers a request for `model`; None is the base. Raises Refused for an unknown name."""
        served = self._core.settings.served_names
        found = self.find(model) if model else None
        if found is not None and (self._release.base_name_shadows or model not in served):
            return found
        if not model or model in served:
            return None
        message = f"The model `{model}` does not exist."
        if self._release.lists_valid_aliases:
            message += f" Valid aliases: {', '.join(served)}."
        raise Refused(404, "NotFoundError", message, "model" if self._release.lists_valid_aliases else None)

    async def load(self, request: LoadRequest, asked_for: Callable[[], bool] = lambda: True) -> None:
        """Load an adapter. Raises Refused. `asked_for`: whether somebody still waits for the answer."""
        async with self._lock(request.name):
            self._check_load(request)
            request = replace(request, path=self._resolved(request.path))
            known = self.find(request.name)
            self._last_id += known is None
            lora = LoadedAdapter(known.id if known else self._last_id, request.name, request.path, request.inplace)
            try:
                await self._core.add_lora(lora)
            except (AdapterNotFound, LoadRefused, OSError, EngineDead, ValueError) as exc:
                raise self._load_failure(exc, request) from exc
            if self._core.settings.rust_frontend and not asked_for():
                return  # its handler ends with the connection; the engine goes on
            if known is not None:
                self._adapters[self._adapters.index(known)] = lora
            else:
                self._adapters.append(lora)

    def _resolved(self, path: str) -> str:
        """The path that is loaded and listed."""
        return path

    async def unload(self, name: str, *, forget: bool = False, int_id: int | None = None) -> None:
        """Forget a name; the engine is not told. Raises Refused. `forget` plays an engine that does not do it."""
        async with self._lock(name):
            if not name:
                message = "'lora_name' needs to be provided to unload a LoRA adapter."
                raise Refused(400, "InvalidUserInput", message)
            if self.find(name) is None:
                raise Refused(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
            if self._core.settings.unload_seconds > 0:  # else nothing may come between check and removal
                await asyncio.sleep(self._core.settings.unload_seconds)
            if not forget:
                self._adapters = [a for a in self._adapters if a.name != name]

    def _lock(self, name: str) -> asyncio.Lock | AsyncExitStack:
        return self._locks[name] if self._release.locks_names else AsyncExitStack()

    def _check_load(self, request: LoadRequest) -> None:
        if not request.name or not request.path:
            raise Refused(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if self._release.refuses_base_name and request.name in self._core.settings.served_names:
            message = f"The lora adapter '{request.name}' conflicts with a served base model."
            raise Refused(400, "InvalidUserInput", message)
        if self.find(request.name) is not None and not request.inplace:
            message = f"The lora adapter '{request.name}' has already been loaded."
            if self._release.has_load_inplace:
                message += " If you want to load the adapter in place, set 'load_inplace' to True."
            raise Refused(400, "InvalidUserInput", message)

    def _load_failure(self, exc: Exception, request: LoadRequest) -> Refused:
        if isinstance(exc, AdapterNotFound):
            message = f"Loading lora {request.name} failed: No adapter found for {request.path}"
            if self._release.prefixes_not_found:
                message = f"Call to add_lora method failed: {message}"
            return Refused(404, "NotFoundError", message, closes=self._release.closes_after_load_failure)
        message = str(exc)
        if not isinstance(exc, EngineDead):
            message = (
                f"Call to add_lora method failed: Worker failed with error '{message}', please check the stack trace "
                "above for the root cause"
            )
        return Refused(
            self._release.load_failure_status,
            self._release.load_failure_type,
            message,
            closes=self._release.closes_after_load_failure,
        )
