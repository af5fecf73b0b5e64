"""Whether the base model that an adapter was trained on is the one that is served, as far as names can tell."""

from __future__ import annotations

import re

from lora_operator.artifacts.folder import CONFIG_FILE
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

# How a repository's name says in which format the same weights are: copies of all formats have the same layers, and
# QLoRA adapters name a quantised one.
_FORMATS = (
    "unsloth", "bnb", r"\d{1,2}bit", "nf4", "fp4", "nvfp4", "mxfp4", "fp8", "fp16", "fp32", "bf16", "f16", "f32",
    r"int[48]", r"w\d+a\d+", "awq", "gptq", "gguf", "mlx", "exl[23]", "hqq", "aqlm", "marlin", "autoround", "torchao",
    r"g\d+", r"\d+g", r"q\d(?:[-_.][a-z0-9]{1,2}){0,2}", "quantized", "quant", "unquantized", "qat", "dynamic", "hf",
)  # fmt: skip
_FORMAT = re.compile(rf"(?:[-_.](?:{'|'.join(_FORMATS)}))+\Z")
_PUBLISHER = re.compile(r"\Ameta-(?=llama)")  # Meta-Llama-3.1 was renamed to Llama-3.1
_CACHED = re.compile(r"(?:\A|[/\\])models--[^/\\]+?--([^/\\]+)")  # a folder of the hub's cache
# Paths and URLs; a hub's name has one slash at most.
_PLACE = re.compile(r"\A[/.~]|\\|\A[A-Za-z][A-Za-z0-9+.-]*:|/.*/")
# What folders are called that a training writes.
_OUTPUT = re.compile(r"(?:(?:checkpoint|epoch|step)[-_]?\d*|merged|final|best|last|model|base[-_]model|outputs?)\Z")


# Among the names of a served model: what is behind them is not known.
UNKNOWN_MODEL = "/?"


def check_base_name(trained_on: str | None, served: str | None, aliases: tuple[str, ...] = ()) -> None:
    """Raise AdapterRefused if all names are known and cannot mean the same model.

    `aliases` are further names of the served model, such as the --model behind a --served-model-name. A place (a path,
    a URL, a folder that a training wrote) says where somebody found the model, not which one it is: where a name is
    one, nothing is known. A served name without an organisation may be made up, and contradicts nothing by itself.
    """
    trained = None if trained_on is None else model_of(trained_on)
    names = () if served is None else tuple(model_of(name) for name in (served, *aliases))
    if trained is None or not names or None in names or trained in names:
        return
    if not any("/" in name for name in (served or "", *aliases)):
        return
    raise AdapterRefused(
        RefusedReason.BASE_MODEL_MISMATCH,
        f"{CONFIG_FILE} has base_model_name_or_path={(trained_on or '')[:200]!r}, but {(served or '')[:200]!r} is "
        "served: declare the adapter for its own base model, or set baseModelCheck: Skip in the LoraAdapter if it is "
        "the same model under another name",
    )


def model_of(name: str) -> str | None:
    """What is left of a model's name without what does not tell models apart; None for a place.

    Left out: case, the organisation, the format of the weights, and which of '-', '_' and '.' stands between words.
    """
    cached = _CACHED.search(name)
    if cached is not None:
        name = cached[1]
    elif _PLACE.search(name.rstrip("/")):
        return None
    bare = name.rstrip("/").rsplit("/", 1)[-1].lower()
    if _OUTPUT.match(bare):
        return None
    return re.sub(r"[-_.]+", "-", _PUBLISHER.sub("", _FORMAT.sub("", bare)))
