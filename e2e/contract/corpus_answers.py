"""What peft answers with each adapter of a folder, on a model like the suite's with more layers:
`python -m e2e.contract.corpus_answers MODEL ADAPTERS ANSWERS`, in the environment of real vLLM. Writes all three."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from .corpus import LAYERS
from .reference import reference_answers
from .tiny_model import make_model

if __name__ == "__main__":
    torch.set_num_threads(1)  # on a busy machine threads wait for each other, over products of so small matrices
    model, adapters, answers = map(Path, sys.argv[1:])
    answers.write_text(json.dumps(reference_answers(make_model(model, LAYERS), adapters, whole=False)))
