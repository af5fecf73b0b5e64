"""Compares texts by meaning, with an embedding model from a local folder. Nothing is ever downloaded.

Needs the extra `semantic` (sentence-transformers, and so PyTorch), which is imported only where a model is loaded.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from lora_operator.router.topics import Subject, Subjects
from lora_operator.settings.options import SettingsError

BATCH = 32  # lines at a time: others wait for no longer than that takes
KEPT = 20_000  # embeddings: 30 MB with 384 numbers each
MARKERS = ("modules.json", "config.json")


class EmbeddingModelError(SettingsError):
    """There is no usable model where --embedding-model says."""


class Model(Protocol):
    """Texts to vectors of length 1, as rows of a matrix."""

    def embed(self, texts: Sequence[str]) -> Any: ...


class SentenceModel:
    """A model of sentence-transformers."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed(self, texts: Sequence[str]) -> Any:
        """A row for each text; what is longer than the model reads is cut."""
        return self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def load_model(folder: Path) -> SentenceModel:
    """Takes seconds, and some hundred megabytes. Raises EmbeddingModelError."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise EmbeddingModelError(
            "--embedding-model needs sentence-transformers, which is not installed: install lora-operator[semantic], "
            "or leave the flag out and select by keywords"
        )
    missing = [name for name in MARKERS if not (folder / name).is_file()]
    if missing:
        raise EmbeddingModelError(
            f"--embedding-model: {folder} has no {' and no '.join(missing)}; name the folder of a model of "
            "sentence-transformers. It has to be there: nothing is downloaded"
        )
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        torch.set_num_threads(1)  # one short text is no work for several, and the machine is shared
        disable_progress_bar()
        # no pickles: they would run code
        model = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
        model.encode(["warm up"], show_progress_bar=False)
    except Exception as error:  # whatever the libraries stumble over
        raise EmbeddingModelError(f"--embedding-model: {folder} cannot be loaded: {error}") from error
    return SentenceModel(model)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The adapter and the line of its description that mean most nearly the same as a text, and the cosine, -1 to 1."""

    subject: Subject
    line: str
    score: float


class Semantic:
    """Each line of a description stands for itself: one that says what the adapter does, or a request for it.

    Keeps the embedding of each line. Only one thread may use it.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._embedded: dict[str, Any] = {}
        self._matrices: WeakKeyDictionary[Subjects, tuple[dict[str, Subject], Any]] = WeakKeyDictionary()

    def prepare(self, subjects: Subjects) -> bool:
        """Embed some of the lines; false once all are there."""
        wanted = _lines(subjects).keys()
        missing = sorted(wanted - self._embedded.keys())[:BATCH]
        if not missing:
            return False
        self._embedded |= zip(missing, self._model.embed(missing), strict=True)
        while len(self._embedded) > max(KEPT, len(wanted)):
            del self._embedded[next(iter(self._embedded))]
        return True

    def nearest(self, subjects: Subjects, text: str) -> Nearest | None:
        """Of equal ones the higher priority, then the name; None if nobody has a description.

        `prepare` until nothing is left before.
        """
        lines, matrix = self._matrix(subjects)
        if not lines:
            return None
        scores = matrix @ self._model.embed([text])[0]
        best = int(scores.argmax())
        line = list(lines)[best]
        return Nearest(lines[line], line, float(scores[best]))

    def _matrix(self, subjects: Subjects) -> tuple[dict[str, Subject], Any]:
        found = self._matrices.get(subjects)
        if found is None:
            import numpy

            lines = {line: one for line, one in sorted(_lines(subjects).items()) if line in self._embedded}
            found = self._matrices[subjects] = lines, numpy.stack([self._embedded[line] for line in lines] or [[0.0]])
        return found


def _lines(subjects: Subjects) -> dict[str, Subject]:
    """Each line once, with the adapter that has it: rows that are equal may differ in the last digit of a product."""
    found: dict[str, Subject] = {}
    for one in sorted(subjects.items, key=lambda one: (-one.about.priority, one.key)):
        for line in one.about.description.splitlines():
            if line.strip():
                found.setdefault(line.strip(), one)
    return found
