"""`spec.owner` of whoever a token names: the user library writes what the gateway looks for. Pure."""

from __future__ import annotations

import re

from lora_operator.api.derived_names import derived_name
from lora_operator.api.rules import OWNER

_ODD = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def owner_key(subject: str) -> str:
    """`spec.owner` of a subject: the subject itself where that may be one, else a readable form of it with a digest.

    No subject has another's.
    """
    return derived_name(subject, _may_be, _ODD.sub("-", subject), otherwise="user")


def _may_be(subject: str) -> bool:
    return OWNER.min_length <= len(subject) <= OWNER.max_length and OWNER.fits(subject)
