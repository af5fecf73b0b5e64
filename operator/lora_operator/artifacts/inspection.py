"""Reads an adapter's folder and says what it is, or why it must not be loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_operator.artifacts.adapter_config import MAX_CONFIG_BYTES, AdapterConfig, parse_config
from lora_operator.artifacts.against_base import check_fits
from lora_operator.artifacts.base_name import check_base_name
from lora_operator.artifacts.base_shape import BaseModelShape
from lora_operator.artifacts.consistency import (
    check_blocks,
    check_declared_layers,
    check_heads,
    check_ranks,
    check_targets,
    doubts_about_layers,
)
from lora_operator.artifacts.folder import (
    CONFIG_FILE,
    PICKLE_FILES,
    WEIGHTS_FILE,
    AdapterFile,
    identity,
    open_regular,
    refused_by_os,
)
from lora_operator.artifacts.header import Tensor, parse_header, read_header
from lora_operator.artifacts.modules import Module, pair_up
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason
from lora_operator.artifacts.scan import sha256_of_finite

# Releases up to 0.11 read it, later ones leave it out: the added tokens would silently be without effect.
_ADDED_EMBEDDINGS = "new_embeddings.safetensors"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a good adapter is.

    `rank` is the largest of all its modules; an engine's max_lora_rank must not be smaller. `bytes` counts the LoRA
    matrices as stored: an engine that computes in another width keeps them in that one. `targets` are the adapted
    modules' last names, sorted; `layers` the number of layers that have any. `dtype` is F16, BF16 or F32, several
    joined by '+'. `features` are properties that some engine releases refuse or ignore (rank_pattern, alpha_pattern,
    rslora, fused_experts, classification_head); `vllm.quirks` says which. `shapes`: (module path with {} for the layer,
    inputs, outputs), sorted. `files` are those that belong on a pod. `doubts` are sentences about what looks wrong and
    may be right: for people.
    """

    rank: int
    bytes: int
    peft_type: str
    base_model: str | None
    targets: tuple[str, ...]
    layers: int
    dtype: str
    use_rslora: bool
    features: frozenset[str]
    shapes: tuple[tuple[str, int, int], ...]
    files: tuple[AdapterFile, ...]
    doubts: tuple[str, ...] = ()


def inspect(
    folder: Path,
    *,
    base: BaseModelShape | None = None,
    served_base_model: str | None = None,
    base_aliases: tuple[str, ...] = (),
) -> Inspection:
    """Read the whole adapter in `folder` once and check it; blocking, in memory that does not grow with its size.

    `base` are the base model's layer shapes and `served_base_model` its name, where known; `base_aliases` are its other
    names. Where the shapes fit, another name is no reason to refuse. Raises AdapterRefused, and nothing else, whatever
    the folder holds.
    """
    try:
        return _inspect(folder, base, served_base_model, base_aliases)
    except OSError as error:
        raise refused_by_os(str(error.filename or WEIGHTS_FILE), error, RefusedReason.FILE_CHANGED) from error


def _inspect(
    folder: Path, base: BaseModelShape | None, served_base_model: str | None, base_aliases: tuple[str, ...]
) -> Inspection:
    _check_folder(folder)
    config_file, raw = _read_config(folder)
    config = parse_config(raw)
    names = (served_base_model, base_aliases)
    if base is None:
        check_base_name(config.base_model, *names)
    _refuse_pickles(name for name in (WEIGHTS_FILE, *PICKLE_FILES) if os.path.lexists(folder / name))
    with open_regular(folder, WEIGHTS_FILE, RefusedReason.WEIGHTS_MISSING) as descriptor:
        before = identity(descriptor)
        tensors = read_header(descriptor, before[0])
        modules = pair_up(tensors, config.heads)
        check_heads(config, (tensor.name for tensor in tensors))
        features = _check(config, modules, base)
        doubts = _doubts(config, modules, base, *names)
        sha256 = sha256_of_finite(descriptor, tensors, before[0])
        if identity(descriptor) != before:
            raise AdapterRefused(
                RefusedReason.FILE_CHANGED, f"{WEIGHTS_FILE} changed while it was read: wait until it is complete"
            )
    weights_file = AdapterFile(WEIGHTS_FILE, before[0], sha256)
    return _described(config, modules, tensors, features, (config_file, weights_file), doubts)


def inspect_parts(
    names: Collection[str],
    config: tuple[AdapterFile, bytes],
    weights: tuple[AdapterFile, bytes],
    *,
    base: BaseModelShape | None = None,
    served_base_model: str | None = None,
    base_aliases: tuple[str, ...] = (),
) -> Inspection:
    """Check an adapter that is still at a remote store, by what is cheap to read of it.

    `names` are all file names of its folder; `config` the whole adapter_config.json; `weights` the safetensors file and
    the JSON of its header (see `header_length`). That no value is NaN or infinite is checked when it is fetched.
    Raises AdapterRefused.
    """
    _refuse_added_tokens(names)
    _refuse_pickles(names)
    (config_file, raw), (weights_file, head) = config, weights
    if len(raw) > MAX_CONFIG_BYTES:
        raise _config_too_large(len(raw))
    parsed = parse_config(raw)
    if base is None:
        check_base_name(parsed.base_model, served_base_model, base_aliases)
    tensors = parse_header(head, weights_file.size_bytes)
    modules = pair_up(tensors, parsed.heads)
    check_heads(parsed, (tensor.name for tensor in tensors))
    features = _check(parsed, modules, base)
    doubts = _doubts(parsed, modules, base, served_base_model, base_aliases)
    return _described(parsed, modules, tensors, features, (config_file, weights_file), doubts)


def _config_too_large(size_bytes: int) -> AdapterRefused:
    return AdapterRefused(
        RefusedReason.CONFIG_TOO_LARGE,
        f"{CONFIG_FILE} has {size_bytes} bytes: at most {MAX_CONFIG_BYTES} are read, it is not a PEFT config",
    )


def _check_folder(folder: Path) -> None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except PermissionError:
        return  # a folder that may be entered but not listed is fine; else the first file says what is wrong
    except NotADirectoryError as error:
        raise AdapterRefused(RefusedReason.FOLDER_MISSING, f"{folder} is a file, not an adapter's folder") from error
    except (OSError, ValueError) as error:
        raise AdapterRefused(RefusedReason.FOLDER_MISSING, f"{folder} cannot be opened ({error})") from error
    _refuse_added_tokens(names)


def _refuse_added_tokens(names: Collection[str]) -> None:
    if _ADDED_EMBEDDINGS in names:
        raise AdapterRefused(
            RefusedReason.FEATURE_UNSUPPORTED,
            f"{_ADDED_EMBEDDINGS} adds tokens to the vocabulary, which engines leave out: train without added tokens",
        )


def _read_config(folder: Path) -> tuple[AdapterFile, bytes]:
    with open_regular(folder, CONFIG_FILE, RefusedReason.CONFIG_MISSING) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > MAX_CONFIG_BYTES:
            raise _config_too_large(size)
        raw = bytearray()
        while len(raw) <= size and (part := os.read(descriptor, size + 1 - len(raw))):
            raw += part
    if len(raw) != size:
        raise AdapterRefused(
            RefusedReason.FILE_CHANGED, f"{CONFIG_FILE} changed while it was read: wait until it is complete"
        )
    return AdapterFile(CONFIG_FILE, size, hashlib.sha256(raw).hexdigest()), bytes(raw)


def _refuse_pickles(names: Iterable[str]) -> None:
    there = set(names)
    if WEIGHTS_FILE in there:
        return
    for name in PICKLE_FILES:
        if name in there:
            raise AdapterRefused(
                RefusedReason.PICKLE_REFUSED,
                f"{name} is a pickle, which can run any code when it is read: save the adapter as safetensors "
                f"({WEIGHTS_FILE}; PEFT does so by default)",
            )


def _check(config: AdapterConfig, modules: Sequence[Module], base: BaseModelShape | None) -> frozenset[str]:
    features = check_ranks(config, modules)
    check_targets(config, modules)
    check_declared_layers(config, modules)
    if base is not None:
        check_fits(config, modules, base)
    else:
        check_blocks(modules)
    return features | {"rslora"} if config.use_rslora else features


def _doubts(
    config: AdapterConfig,
    modules: Sequence[Module],
    base: BaseModelShape | None,
    served_base_model: str | None,
    base_aliases: tuple[str, ...],
) -> tuple[str, ...]:
    if base is None:
        return doubts_about_layers(modules, layers_declared=config.layers_declared)
    try:
        check_base_name(config.base_model, served_base_model, base_aliases)
    except AdapterRefused as refused:
        return (refused.message,)
    return ()


def _described(
    config: AdapterConfig,
    modules: Sequence[Module],
    tensors: Sequence[Tensor],
    features: frozenset[str],
    files: tuple[AdapterFile, ...],
    doubts: tuple[str, ...],
) -> Inspection:
    return Inspection(
        rank=max(
            [config.rank, *config.rank_pattern.values(), *(module.rank for module in modules if not module.experts)]
        ),
        bytes=sum(module.size_bytes for module in modules),
        peft_type=config.peft_type,
        base_model=config.base_model,
        targets=tuple(sorted({module.leaf for module in modules})),
        layers=len({(module.template.split("{}")[0], module.layer) for module in modules if module.layer is not None}),
        dtype="+".join(sorted({tensor.dtype for tensor in tensors})),
        use_rslora=config.use_rslora,
        features=features,
        shapes=tuple(sorted({(module.template, module.inputs, module.outputs) for module in modules})),
        files=files,
        doubts=doubts,
    )
