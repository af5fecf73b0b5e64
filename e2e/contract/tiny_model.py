"""The base model of the suite: a random two-layer Llama that any machine can make again from its seed.

Needs torch, transformers and tokenizers, which live in the environment of real vLLM only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_SEED = 20260101
_SENTENCES = [
    "The operator keeps adapters loaded on the pods that serve their base model.",
    "A quick brown fox jumps over the lazy dog while the engine reads its files.",
    "What is resident is read from the pod and never assumed, says the architecture.",
    "Weights change, names stay, and every answer tells which version computed it.",
]


def make_model(folder: Path, layers: int = 2) -> LlamaForCausalLM:
    """Write model and tokenizer into `folder` and return the model (float32, evaluation mode)."""
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = LlamaForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # wide enough that the answers of two adapters differ clearly
                spread = 0.6 if "embed" in name or "lm_head" in name else 0.15
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    model.save_pretrained(folder)
    _make_tokenizer().save_pretrained(folder)
    _use_older_names(folder / "tokenizer_config.json")
    return model


def _use_older_names(config_file: Path) -> None:
    """transformers 5 writes a class name that 4, which releases before 0.28 need, does not know; 5 knows both."""
    config = json.loads(config_file.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config.pop("backend", None)
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def weights_digest(model: LlamaForCausalLM) -> str:
    """SHA-256 over all weights, to tell whether two machines made the same model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()


def _make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_SENTENCES * 4, trainer)
    chat = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=chat
    )
