"""`rank_pattern` and `alpha_pattern`: which entry holds for a module, by PEFT's rule, without running hostile regexes.

PEFT matches a key as `(.*\\.)?(KEY)$` and the first match wins. Keys are regular expressions written by whoever made
the adapter, and Python's engine can be kept busy for years by a bad one: only keys whose cost is bounded are run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

Value = TypeVar("Value")

MAX_KEYS = 1 << 16
MAX_KEY_LENGTH = 256
MAX_PATH_LENGTH = 256  # of modules, where there are regular expressions to match
# Keys × modules. A match takes time with the path's length to the power of one more than the key's repetitions: some
# milliseconds at worst for two.
MAX_MATCHES = {0: 1 << 18, 1: 4096, 2: 512}
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_ALLOWED = re.compile(r"[A-Za-z0-9_.\-\\^$()|\[\]*+?:]+", re.ASCII)
_REPETITION = re.compile(r"[*+]|(?<![(*+])\?")
# A repetition after a group, or after another repetition, is where the time grows exponentially.
# The last three begin sets inside of sets, which later versions of Python read in another way.
_DANGEROUS = re.compile(r"[)*+?][*+]|\)\?|\\[0-9]|\[[^\]]*\[|--|\|\|")


def first_match(pattern: Mapping[str, Value], modules: Iterable[str], file: str, field: str) -> dict[str, Value]:
    """The modules that an entry of `pattern` holds for. Raises AdapterRefused for a key that cannot be used."""
    names = list(modules)
    if not pattern:
        return {}
    if len(pattern) > MAX_KEYS:
        raise _refused(file, field, f"has {len(pattern)} entries: at most {MAX_KEYS} are checked")
    plain = all(_PLAIN.fullmatch(key) and len(key) <= MAX_KEY_LENGTH for key in pattern)
    if plain:
        return _first_plain(pattern, names)
    compiled = [(_bounded(key, file, field), value) for key, value in pattern.items()]
    for repetitions, most in MAX_MATCHES.items():
        if sum(_repetitions(key) >= repetitions for key in pattern) * len(names) > most:
            raise _refused(file, field, "has too many regular expressions: use plain module names as keys")
    if any(len(name) > MAX_PATH_LENGTH for name in names):
        raise _refused(
            file, field, "has regular expressions, and modules have very long names: use plain names as keys"
        )
    found: dict[str, Value] = {}
    for name in names:
        for expression, value in compiled:
            if expression.match(name):
                found[name] = value
                break
    return found


def _first_plain(pattern: Mapping[str, Value], names: list[str]) -> dict[str, Value]:
    """The same for keys that are plain names (a '.' in them means a dot, as whoever wrote one meant it)."""
    position = {key: index for index, key in enumerate(pattern)}
    values = list(pattern.values())
    found: dict[str, Value] = {}
    for name in names:
        parts = name.split(".")
        endings = (".".join(parts[index:]) for index in range(len(parts)))
        first = min((position[ending] for ending in endings if ending in position), default=None)
        if first is not None:
            found[name] = values[first]
    return found


def _bounded(key: str, file: str, field: str) -> re.Pattern[str]:
    shown = repr(key[:60])
    if not key or len(key) > MAX_KEY_LENGTH or not _ALLOWED.fullmatch(key):
        raise _refused(file, field, f"has the key {shown}, which is not checked: use plain module names as keys")
    if _repetitions(key) > max(MAX_MATCHES) or key.count("|") > 8 or _DANGEROUS.search(key):
        raise _refused(file, field, f"has the key {shown}, a costly regular expression: use plain module names as keys")
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except (re.error, RecursionError, OverflowError) as error:
        raise _refused(file, field, f"has the key {shown}, not a regular expression ({error}): repair it") from error


def _repetitions(key: str) -> int:
    return len(_REPETITION.findall(key))


def _refused(file: str, field: str, text: str) -> AdapterRefused:
    return AdapterRefused(RefusedReason.CONFIG_INVALID, f"{file}: {field} {text}")
