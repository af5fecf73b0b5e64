"""What requests the adapters of a LoraAdapter are for, from `spec.selection` and an annotation. Pure.

What is said of all adapters counts for each; what is said of one adds to its keywords, and replaces the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from lora_operator.informers.records import Resource
from lora_operator.router.entries import About

SEPARATOR = ","
MOST_KEYWORDS = 50  # of an annotation, which no schema bounds


def about_of(resource: Resource) -> Callable[[str], About | None]:
    """By an adapter's name; None where nothing was said."""
    selection = resource.spec.selection if resource.spec is not None else None
    noted = _split(resource.keywords)
    if selection is None:
        plain = About(noted) if noted else None
        return lambda name: plain
    keywords = tuple(dict.fromkeys((*selection.keywords, *noted)))
    shared = About(keywords, selection.description or "", selection.priority)
    own = {
        one.name: About(
            tuple(dict.fromkeys((*keywords, *one.keywords))),
            one.description or shared.description,
            shared.priority if one.priority is None else one.priority,
        )
        for one in selection.adapters
    }

    def about(name: str) -> About | None:
        found = own.get(name, shared)
        return found if found.keywords or found.description else None

    return about


def _split(annotation: str) -> tuple[str, ...]:
    words = (word.strip() for word in annotation.split(SEPARATOR))
    return tuple(dict.fromkeys(word for word in words if word))[:MOST_KEYWORDS]
