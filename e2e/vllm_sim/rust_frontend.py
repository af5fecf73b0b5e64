"""The registry as the Rust frontend keeps it: it asks the engine to remove adapters, and lists resolved paths."""

from __future__ import annotations

from pathlib import Path

from .adapter_files import AdapterNotFound
from .core import EngineDead
from .registry import LoadRequest, Refused, Registry


class RustRegistry(Registry):
    """Adapters by name, in load order, behind `vllm-rs`."""

    def _resolved(self, path: str) -> str:
        """The path without links, if it is below an allowed prefix. Raises Refused."""
        is_local = path.startswith(("/", "~", ".")) or ".." in Path(path).parts or Path(path).exists()
        if not is_local:
            return path
        prefixes = self._core.settings.allowed_prefixes
        if not prefixes:
            raise _bad("Local LoRA adapter paths require VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES to be configured.")
        if not path.startswith("/"):
            raise _bad("Local LoRA adapter paths must be absolute and under one of the configured prefixes.")
        try:
            resolved = Path(path).resolve(strict=True)
        except OSError:
            raise _bad("Local LoRA adapter path must exist and be accessible.") from None
        if not any(resolved.is_relative_to(Path(prefix).resolve()) for prefix in prefixes):
            raise _bad("Local LoRA adapter path is outside the configured allowed prefixes.")
        return str(resolved)

    def _check_load(self, request: LoadRequest) -> None:
        if not self._core.settings.enable_lora:
            raise _bad("engine was not started with LoRA enabled")
        if not request.name or not request.path:
            raise _bad(f"{'lora_path' if request.name else 'lora_name'} must not be empty")
        if request.name in self._core.settings.served_names:
            raise _bad(f"LoRA adapter `{request.name}` conflicts with a served base model")
        if self.find(request.name) is not None and not request.inplace:
            raise _bad(f"LoRA adapter `{request.name}` is already loaded. To load it in place, set 'load_inplace'.")

    def _load_failure(self, exc: Exception, request: LoadRequest) -> Refused:
        said = f"No adapter found for {request.path}" if isinstance(exc, AdapterNotFound) else str(exc)
        return Refused(500, "InternalServerError", f"failed to load LoRA adapter `{request.name}`: `add_lora`: {said}")

    async def unload(self, name: str, *, forget: bool = False, int_id: int | None = None) -> None:
        """Have the engine remove it, then forget the name. Raises Refused."""
        async with self._lock(name):
            if not name:
                raise _bad("'lora_name' needs to be provided to unload a LoRA adapter.")
            known = self.find(name)
            if known is None:
                raise Refused(404, "NotFoundError", f"The model `{name}` does not exist.", "model")
            if int_id not in (None, known.id):
                raise _bad(f"requested lora_int_id {int_id} does not match loaded adapter `{name}` with id {known.id}")
            try:
                removed = await self._core.remove_lora(known)
            except EngineDead as dead:
                raise Refused(500, "InternalServerError", str(dead)) from dead
            if not removed:
                message = f"engine rejected removal of LoRA adapter `{name}` with id {known.id}"
                raise Refused(500, "InternalServerError", message)
            if not forget:
                self._adapters = [a for a in self._adapters if a.name != name]


def _bad(message: str) -> Refused:
    return Refused(400, "BadRequestError", message)
