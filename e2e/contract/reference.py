"""What peft itself answers with each adapter: the measure for whether an engine answers rightly.

For one prompt of token ids, greedy decoding for a few tokens: the tokens, each one's log probability, and the margin to
the runner-up (where it is small, an engine may rightly choose the other). Needs torch and peft.
"""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

PROMPT = [1, *range(40, 140, 5)]
TOKENS = 6


def reference_answers(model: LlamaForCausalLM, adapters: Path, *, whole: bool = True) -> dict[str, dict[str, Any]]:
    """Adapter -> its answer, or the reason why peft does not take it. The base is called "". Unless `whole`, tensors
    may be absent, as of layers that were left out."""
    answers: dict[str, dict[str, Any]] = {"": _greedy(model)}
    for folder in sorted(path for path in adapters.iterdir() if path.is_dir()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if whole:  # not an error by itself
                    warnings.filterwarnings("error", message="Found missing adapter keys")
                tuned = PeftModel.from_pretrained(copy.deepcopy(model), folder)
                answer = _greedy(tuned.eval())
        except Exception as exc:
            reason = str(exc).replace(str(folder), "FOLDER").splitlines()[0][:100]
            answers[folder.name] = {"refused": f"{type(exc).__name__}: {reason}"}
            continue
        answers[folder.name] = answer
    return answers


def _greedy(model: torch.nn.Module) -> dict[str, Any]:
    ids = list(PROMPT)
    tokens, logprobs, margins = [], [], []
    for _ in range(TOKENS):
        with torch.no_grad():
            batch = torch.tensor([ids])
            logits = model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False).logits[0, -1]
        scores = torch.log_softmax(logits.float(), dim=-1)
        best, second = torch.topk(scores, 2).values.tolist()
        if not math.isfinite(best):
            return {"refused": "the answer is not a number"}
        ids.append(int(scores.argmax()))
        tokens.append(ids[-1])
        logprobs.append(round(best, 4))
        margins.append(round(best - second, 4))
    return {"tokens": tokens, "logprobs": logprobs, "margins": margins}
