"""Write the tiny model, all adapters and peft's answers: `python -m e2e.contract.make_adapters`.

Runs in the environment of real vLLM (torch, transformers, peft). `--model-only FOLDER` writes just the model with its
weights, which are not checked in: everything else is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from .peft_adapters import write_adapters
from .reference import PROMPT, reference_answers
from .spoiled_adapters import write_spoiled
from .tiny_model import make_model, weights_digest

HERE = Path(__file__).parent
ADAPTERS = HERE / "adapters"
MODEL = HERE / "model"
ANSWERS = HERE / "answers.json"


def make_everything() -> None:
    """Replace `adapters/`, `model/` and `answers.json`."""
    shutil.rmtree(ADAPTERS, ignore_errors=True)
    ADAPTERS.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(Path(scratch))
        MODEL.mkdir(exist_ok=True)
        shutil.copy(Path(scratch) / "config.json", MODEL / "config.json")
    print("model made; adapters …", flush=True)
    write_adapters(model, ADAPTERS)
    write_spoiled(ADAPTERS)
    print("adapters made; peft's answers …", flush=True)
    answers = reference_answers(model, ADAPTERS)
    body = {"model_sha256": weights_digest(model), "prompt": PROMPT, "answers": answers}
    rows = [f"  {json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    head = [f"{json.dumps(key)}: {json.dumps(body[key])}," for key in ("model_sha256", "prompt")]
    ANSWERS.write_text("\n".join(["{", *head, '"answers": {', ",\n".join(rows), "}", "}", ""]))


def make_model_only(folder: Path) -> None:
    """Write the model into `folder`. Exits where it is not the one that `answers.json` was computed with."""
    model = make_model(folder)
    expected = json.loads(ANSWERS.read_text())["model_sha256"]
    if weights_digest(model) != expected:
        sys.exit(
            f"The model made here has other weights than the one behind {ANSWERS.name}: this torch draws other random "
            "numbers. Run `python -m e2e.contract.make_adapters` with it, and run the suite against the result."
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-only", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    if chosen.model_only:
        make_model_only(chosen.model_only)
    else:
        make_everything()
