"""What engines of all releases answer, as values: their errors and their list of models. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens. `address` is an IP address (v4 or v6) or a host name, without brackets."""

    address: str
    port: int
    api_key: str | None = None
    secure: bool = False  # speaks TLS
    further_ports: tuple[int, ...] = ()  # where servers of its other ranks listen, see `ranks`

    def each(self) -> tuple[Endpoint, ...]:
        """One for each server."""
        return tuple(replace(self, port=port, further_ports=()) for port in (self.port, *self.further_ports))

    @property
    def scheme(self) -> str:
        return "https" if self.secure else "http"

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def __repr__(self) -> str:  # never the key: reprs end up in logs and tracebacks
        return f"Endpoint({self!s}{', with key' if self.api_key else ''})"


class Frontend(StrEnum):
    """Who answers HTTP before the engine: vLLM's server in Python, or `vllm-rs` (run: 0.33; read: 0.32)."""

    PYTHON = "Python"
    RUST = "Rust"


_RUST_OWNER = "vllm-frontend-rs"


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One entry of /v1/models. For an adapter, `root` is the path exactly as it was sent when it was loaded, or, from
    the Rust frontend, that path with all links resolved."""

    name: str
    root: str
    parent: str | None
    frontend: Frontend = Frontend.PYTHON
    partial: bool = False  # not every rank of the pod lists it, see `ranks`

    @property
    def is_base(self) -> bool:
        return self.parent is None

    def is_from(self, path: str) -> bool:
        """Whether it was loaded from `path`, whose last two folders are no links, and by every rank."""
        if self.partial:
            return False
        if self.root == path:
            return True
        return self.frontend is Frontend.RUST and _version_folder(self.root) == _version_folder(path)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An engine's error, whichever shape its release gives it. `bare_detail`: the web framework's own, not vLLM's."""

    type: str | None
    message: str
    bare_detail: bool = False

    @property
    def is_bare_not_found(self) -> bool:
        """A 404 with this body means that the route does not exist, not that the adapter does not."""
        return self.bare_detail and self.message in ("Not Found", "")


def parse_error(body: bytes) -> ErrorBody:
    """Read an error body of any release; never raises.

    Shapes: `{"error": {"message", "type"}}` (0.10 and later), `{"error": "Unauthorized"}` (key missing or wrong),
    `{"detail": "Not Found"}` (FastAPI: no such route or method), `{"object": "error", "message", "type"}` (0.8), and
    nothing at all (the Rust frontend: no such route).
    """
    if not body:
        return ErrorBody(None, "", bare_detail=True)
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody(None, body[:2000].decode("utf-8", "replace"))
    if not isinstance(parsed, dict):
        return ErrorBody(None, str(parsed)[:2000])
    error = parsed.get("error")
    if isinstance(error, dict):
        return ErrorBody(_text(error.get("type")), _words(error.get("message")))
    if error is not None:
        return ErrorBody(None, _words(error))
    if "detail" in parsed:
        return ErrorBody(None, _words(parsed["detail"]), bare_detail=True)
    return ErrorBody(_text(parsed.get("type")), _words(parsed.get("message")))


def parse_models(body: bytes) -> tuple[EngineModel, ...]:
    """The entries of /v1/models in the engine's order (base models, then adapters in load order).

    Raises ValueError for anything else: an entry that is skipped would be room that placement believes to be free.
    """
    parsed = _json(body)
    data = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(data, list):
        raise ValueError("no list called data")
    models = []
    for entry in data:
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError("an entry without an id")
        frontend = Frontend.RUST if entry.get("owned_by") == _RUST_OWNER else Frontend.PYTHON
        models.append(EngineModel(name, _text(entry.get("root")) or "", _text(entry.get("parent")), frontend))
    return tuple(models)


def parse_version(body: bytes) -> str:
    """The release that /version names. Raises ValueError where it names none."""
    parsed = _json(body)
    version = parsed.get("version") if isinstance(parsed, dict) else None
    if not isinstance(version, str) or not version:
        raise ValueError("no text called version")
    return version[:100]


def _version_folder(path: str) -> list[str]:
    return path.rstrip("/").split("/")[-2:]


def parse_sleeping(body: bytes) -> bool:
    """What /is_sleeping says. Raises ValueError where it says neither."""
    parsed = _json(body)
    sleeping = parsed.get("is_sleeping") if isinstance(parsed, dict) else None
    if not isinstance(sleeping, bool):
        raise ValueError("neither true nor false called is_sleeping")
    return sleeping


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _words(value: object) -> str:
    """Some releases answer a list of validation errors where others answer a text."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value)[:2000]
