"""Who asks: by the token that the gateway has verified, or by an API key. A client's own word for it never counts.

Envoy tells of a verified token in metadata, which no client can write; a header could be smuggled past it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_operator.api.owner_names import owner_key
from lora_operator.picking.answers import Refusal
from lora_operator.picking.request_headers import Headers

log = logging.getLogger(__name__)

TOKEN_SPACE, TOKEN_KEY = "envoy.filters.http.jwt_authn", "token"
READ_SECONDS = 5.0  # between two looks at the folder of keys
LEAST_KEY = 16  # characters
SCHEME = "bearer"


@dataclass(frozen=True, slots=True)
class Caller:
    """`owners`: whose adapters there are for it; None: everybody's. `name`: for limits and logs; empty: not known."""

    owners: frozenset[str] | None = None
    name: str = ""


class Callers:
    """`claim`: of verified tokens, names the owner (or several). `keys`: else, the folder of API keys; each file is an
    owner, and each line of it a key. Neither: everybody may ask for everything. `shared`: whose adapters all may
    use. `prefix` is put before what the claim says."""

    def __init__(self, claim: str = "", keys: str = "", shared: tuple[str, ...] = (), prefix: str = "") -> None:
        self._claim, self._prefix = claim, prefix
        self._keys = ApiKeys(Path(keys)) if keys else None
        self._shared = frozenset(shared)

    @property
    def take_credentials(self) -> bool:
        """Whether the header `authorization` is for us, and not for engines."""
        return self._keys is not None

    def of(self, headers: Headers, context: Any) -> Caller | Refusal:
        """`context`: the `Metadata` message that came with the headers."""
        if self._claim:
            return self._by_token(context)
        if self._keys is None:
            return Caller()
        scheme, _, key = headers.authorization.partition(" ")
        owner = self._keys.owner(key.strip()) if scheme.lower() == SCHEME else None
        if owner is None:
            return _unauthorized("send an API key that is known here, as Authorization: Bearer KEY")
        return Caller(self._shared | {owner}, owner)

    def _by_token(self, context: Any) -> Caller | Refusal:
        space = context.filter_metadata.get(TOKEN_SPACE)
        token = None if space is None else space.fields.get(TOKEN_KEY)
        if token is None:
            return _unauthorized("the gateway has verified no token")
        value = token.struct_value.fields.get(self._claim)
        said = [] if value is None else [value.string_value, *(one.string_value for one in value.list_value.values)]
        # as the library writes them: what cannot be an owner's name has a derived one, which nobody can claim
        named = sorted({owner_key(self._prefix + one) for one in said if one})
        if not named:
            return _unauthorized(f"the token has no claim {self._claim} that names an owner")
        return Caller(self._shared.union(named), ",".join(named))


class ApiKeys:
    """Kept as digests. A Secret that is mounted changes in place: it is read again every few seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._read_at = float("-inf")
        self._owners: dict[bytes, str] = {}
        self._told: set[str] = set()

    def owner(self, key: str) -> str | None:
        """Whose key it is. Looked up by its digest: how long that takes says nothing of other keys."""
        if self._clock() - self._read_at >= READ_SECONDS:
            self._read()
            self._read_at = self._clock()
        return self._owners.get(_digest(key))

    def _read(self) -> None:
        try:
            files = sorted(one for one in self._folder.iterdir() if one.is_file() and not one.name.startswith("."))
            found = {file.name: file.read_text().split() for file in files}
        except (OSError, UnicodeDecodeError) as error:
            self._tell(f"API keys in {self._folder} cannot be read, those that were known stay: {type(error).__name__}")
            return
        owners: dict[bytes, str] = {}
        twice: set[bytes] = set()
        for owner, keys in found.items():
            for key in keys:
                if len(key) < LEAST_KEY:
                    self._tell(f"an API key of {owner} has less than {LEAST_KEY} characters and is left out")
                    continue
                digest = _digest(key)
                if owners.setdefault(digest, owner) != owner:
                    twice.add(digest)
                    self._tell(f"{owner} and {owners[digest]} have the same API key, which is left out")
        self._owners = {digest: owner for digest, owner in owners.items() if digest not in twice}

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _unauthorized(text: str) -> Refusal:
    return Refusal("unauthorized", 401, "Unauthorized", text)
