"""Names that are derived from who owns what: owners as Kubernetes knows them, engine names, keys in the store. Pure.

All come from the owner's subject by one digest, so that nobody can choose a name that is another's.
"""

from __future__ import annotations

import hashlib
import re

from lora_operator.artifacts import InvalidAdapterName, valid_adapter_name

# Of the digest of an owner: who may choose a name for themselves must not find one with another's digest.
OWNER_DIGITS = 16
MAX_NAME_LENGTH = 100  # leaves room for what engine names begin with
_ODD = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_ENDINGS = (".safetensors", ".tar.gz", ".tgz", ".tar", ".zip")


class InvalidName(ValueError):
    """A name that an adapter of the library cannot have; the message says why."""


def digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def engine_name(subject: str, name: str) -> str:
    """What engines call an adapter: two users' adapters of one name never have the same."""
    return served_name(subject).replace("{name}", name)


def served_name(subject: str) -> str:
    """`spec.servedName` of an owner's LoraAdapters."""
    return f"u-{digest(subject, OWNER_DIGITS)}-{{name}}"


def resource_prefix(subject: str) -> str:
    """What the names of an owner's LoraAdapters begin with."""
    return f"library-{digest(subject, OWNER_DIGITS)}-"


def resource_name(subject: str, base_model: str, part: int) -> str:
    """The LoraAdapter with part `part` of what an owner has for a base model."""
    return f"{resource_prefix(subject)}{digest(base_model, 8)}-{part}"


def published_prefix(subject: str, base_model: str, part: int) -> str:
    """Where the store has what that LoraAdapter names, one folder for each adapter."""
    return f"published/{digest(subject, OWNER_DIGITS)}/{digest(base_model, 8)}/{part}"


def object_prefix(subject: str, object_id: str) -> str:
    return f"objects/{digest(subject, OWNER_DIGITS)}/{object_id}"


def partial_prefix(subject: str, partial_id: str) -> str:
    """Where the pieces are of a file that comes over several requests."""
    return f"partials/{digest(subject, OWNER_DIGITS)}/{partial_id}"


def index_key(subject: str, lora_id: str) -> str:
    """The note from which the row of an adapter can be made again."""
    return f"index/{digest(subject, OWNER_DIGITS)}/{lora_id}/meta.json"


def check_name(name: str, base_model: str | None = None) -> str:
    """`name`, if an adapter may be called so. Raises InvalidName."""
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidName(f"the name has {len(name)} characters: use at most {MAX_NAME_LENGTH}")
    try:
        valid_adapter_name(name, base_model=base_model)
    except InvalidAdapterName as error:
        raise InvalidName(str(error)) from None
    return name


def name_of_file(file_name: str) -> str:
    """A name for what was uploaded without one, from that of its file; "" where that says nothing."""
    last = file_name.replace("\\", "/").rpartition("/")[2]
    for ending in _ENDINGS:
        if last.lower().endswith(ending):
            last = last[: -len(ending)]
    name = re.sub(r"\.{2,}", ".", _ODD.sub("-", last)).strip("-_.")[:MAX_NAME_LENGTH]
    return "" if name == "adapter_model" else name
