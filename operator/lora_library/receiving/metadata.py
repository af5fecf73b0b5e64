"""What the files of an adapter say of it: rank, modules, and what trainers write into the weights' metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_operator.artifacts import Inspection, header_length

MOST_ENTRIES = 64
MOST_CHARACTERS = 1000
MOST_WORDS = 20
_TRIGGERS = ("modelspec.trigger_phrase", "trigger_words", "trigger_word", "activation_text")
_TRAINING = ("ss_", "modelspec.", "training")


def described(found: Inspection, weights: Path) -> dict[str, Any]:
    """JSON, bounded whatever the file holds. Halves of characters, which no answer can have, are question marks."""
    said = _said(found, _metadata(weights))
    return dict(json.loads(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")))


def _said(found: Inspection, metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "rank": found.rank,
        "lora_bytes": found.bytes,
        "peft_type": found.peft_type,
        "trained_on": (found.base_model or "")[:MOST_CHARACTERS],
        "modules": list(found.targets)[:MOST_ENTRIES],
        "layers": found.layers,
        "dtype": found.dtype,
        "features": sorted(found.features),
        "trigger_words": trigger_words(metadata),
        "training": {
            key[:100]: value[:MOST_CHARACTERS]
            for key, value in sorted(metadata.items())
            if key.startswith(_TRAINING) and key not in _TRIGGERS
        },
        "doubts": [each[:MOST_CHARACTERS] for each in found.doubts[:8]],
    }


def trigger_words(metadata: dict[str, str]) -> list[str]:
    """What the metadata names, else the most frequent tags of the training's images or texts."""
    for key in _TRIGGERS:
        if said := metadata.get(key, "").strip():
            return [word.strip()[:100] for word in said.split(",") if word.strip()][:MOST_WORDS]
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[str(tag).strip()[:100]] = counts.get(str(tag).strip()[:100], 0) + int(count)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return []
    return sorted((tag for tag in counts if tag), key=lambda tag: (-counts[tag], tag))[:MOST_WORDS]


def _metadata(weights: Path) -> dict[str, str]:
    """Of a file that inspection has taken."""
    with weights.open("rb") as file:
        size = weights.stat().st_size
        header = json.loads(file.read(header_length(file.read(8), size)))
    found = header.get("__metadata__") or {}
    return dict(list(found.items())[:MOST_ENTRIES])
