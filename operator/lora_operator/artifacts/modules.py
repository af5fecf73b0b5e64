"""From tensors to adapted modules: the pair of matrices that an adapter adds to one layer of the base model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from lora_operator.artifacts.folder import WEIGHTS_FILE
from lora_operator.artifacts.header import Tensor
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

_PREFIX = "base_model.model."
_ENDINGS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
}
# PEFT saves the embeddings beside an adapter of them; engines skip exactly these.
_BASE_EMBEDDINGS = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_MODULE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", re.ASCII)
_NUMBER = re.compile(r"[0-9]+", re.ASCII)
# The lists whose numbers count a model's layers. Others count experts, or parts of a projector or a classifier.
_LAYER_LISTS = frozenset({"layers", "layer", "h", "blocks", "block", "resblocks", "transformer_blocks"})

# PEFT nests two parameters of one module: the outer is the experts' down_proj, the inner their gate_up_proj.
_FUSED = ".experts.base_layer"

_OTHER_METHODS = (
    ("lora_magnitude_vector", RefusedReason.DORA_UNSUPPORTED, "DoRA's magnitudes"),
    (".lora_B.bias", RefusedReason.BIAS_UNSUPPORTED, "a LoRA bias"),
    (".bias", RefusedReason.BIAS_UNSUPPORTED, "a trained bias"),
    (".modules_to_save", RefusedReason.MODULES_TO_SAVE_UNSUPPORTED, "a whole module"),
    (".ia3_l", RefusedReason.PEFT_TYPE_UNSUPPORTED, "IA3"),
    (".lora_E", RefusedReason.PEFT_TYPE_UNSUPPORTED, "AdaLoRA"),
)


@dataclass(frozen=True, slots=True)
class Module:
    """An adapted module: `path` as in the base model, `template` the same with `{}` for its layer's number.

    `experts`: a parameter of a layer's fused experts; its matrices hold those of all experts, one after the other.
    """

    path: str
    template: str
    layer: int | None
    a: Tensor
    b: Tensor
    experts: bool = False

    @property
    def leaf(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def inputs(self) -> int:
        return self.a.shape[1]

    @property
    def outputs(self) -> int:
        return self.b.shape[0]

    @property
    def size_bytes(self) -> int:
        return self.a.end - self.a.begin + self.b.end - self.b.begin


def pair_up(tensors: Iterable[Tensor], heads: Collection[str] = ()) -> tuple[Module, ...]:
    """The modules that `tensors` adapt, by path. Raises AdapterRefused for anything that is not a whole pair, but for
    the `heads` that are stored whole."""
    stored_whole = {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    halves: dict[str, dict[str, Tensor]] = {}
    embeddings: list[tuple[str, Tensor]] = []
    for tensor in tensors:
        if tensor.name.endswith(_BASE_EMBEDDINGS):
            embeddings.append((_stripped(tensor.name).removesuffix(".base_layer.weight"), tensor))
            continue
        if _stripped(tensor.name) in stored_whole:
            continue
        path, half = _parse(tensor)
        pair = halves.setdefault(path, {})
        if half in pair:
            _refuse(RefusedReason.TENSOR_UNEXPECTED, tensor, f"is a second {half} matrix of {path}: save it again")
        pair[half] = tensor
    for path, tensor in embeddings:
        if path not in halves:
            _refuse(
                RefusedReason.FEATURE_UNSUPPORTED,
                tensor,
                "is a changed embedding (tokens were added in training), which engines leave out: train without it",
            )
    fused = {path.removesuffix(".base_layer") for path in halves if path.endswith((_FUSED, ".experts"))}
    for path in sorted(fused):
        there = [half for name in (path, f"{path}.base_layer") for half in halves.get(name, {}).values()]
        if not {path, f"{path}.base_layer"} <= halves.keys():
            _refuse(
                RefusedReason.FEATURE_UNSUPPORTED,
                there[0],
                "adapts one parameter of the experts, and engines take gate_up_proj and down_proj together: adapt both",
            )
    return tuple(_module(path, halves[path], fused) for path in sorted(halves))


def _parse(tensor: Tensor) -> tuple[str, str]:
    name = _stripped(tensor.name)
    if name.startswith(_PREFIX):
        _refuse(
            RefusedReason.TENSOR_UNEXPECTED,
            tensor,
            f"begins with more than one {_PREFIX!r}, so that PEFT would not load it: save the adapter again with PEFT",
        )
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), None)
    if ending is None:
        _refuse_other(tensor)
    path = name.removesuffix(ending)
    if not _MODULE.fullmatch(path):
        _refuse(RefusedReason.TENSOR_UNEXPECTED, tensor, "does not name a module: save it again with PEFT")
    if "base_layer" in path.split(".") and not path.endswith(_FUSED):
        _refuse(RefusedReason.FEATURE_UNSUPPORTED, tensor, "adapts bare parameters: adapt linear layers instead")
    return path, _ENDINGS[ending]


def _refuse_other(tensor: Tensor) -> NoReturn:
    for sign, reason, what in _OTHER_METHODS:
        if sign in tensor.name:
            _refuse(reason, tensor, f"is {what}, which engines do not serve: train a plain LoRA")
    _refuse(RefusedReason.TENSOR_UNEXPECTED, tensor, "is no lora_A or lora_B matrix: save the adapter again with PEFT")


def _stripped(name: str) -> str:
    """Some trainings leave the prefix out, and engines take that as well (run: 0.12 to 0.33)."""
    return name.removeprefix(_PREFIX)


def _module(path: str, pair: dict[str, Tensor], fused: Collection[str]) -> Module:
    experts = path in fused or path.endswith(_FUSED)
    if experts:  # as the parameters are called, which patterns and lists go by
        path = f"{path}.down_proj" if path in fused else path.removesuffix("base_layer") + "gate_up_proj"
    if len(pair) != 2:
        half = next(iter(pair))
        other = "B" if half == "A" else "A"
        _refuse(RefusedReason.PAIR_INCOMPLETE, pair[half], f"has no lora_{other} partner: save the adapter again")
    a, b = pair["A"], pair["B"]
    for tensor in (a, b):
        if len(tensor.shape) != 2:
            _refuse(RefusedReason.SHAPE_MISMATCH, tensor, f"has shape {list(tensor.shape)}, not two dimensions")
    if a.shape[0] != b.shape[1]:
        _refuse(
            RefusedReason.RANK_MISMATCH,
            a,
            f"has rank {a.shape[0]} but its partner lora_B has {b.shape[1]}: save the adapter again",
        )
    template, layer = _layer(path, a)
    return Module(path, template, layer, a, b, experts)


def _layer(path: str, tensor: Tensor) -> tuple[str, int | None]:
    """Put `{}` for the first number in the path that counts layers."""
    parts = path.split(".")
    for index, (before, part) in enumerate(pairwise(parts), 1):
        if before in _LAYER_LISTS and _NUMBER.fullmatch(part):
            if len(part) > 5 or (part[0] == "0" and part != "0"):
                _refuse(RefusedReason.TENSOR_UNEXPECTED, tensor, f"has the layer number {part[:20]}: save it again")
            return ".".join([*parts[:index], "{}", *parts[index + 1 :]]), int(part)
    return path, None


def _refuse(reason: RefusedReason, tensor: Tensor, text: str) -> NoReturn:
    name = tensor.name if len(tensor.name) <= 160 else tensor.name[:159] + "…"
    raise AdapterRefused(reason, f"{WEIGHTS_FILE}: tensor {name} {text}")
