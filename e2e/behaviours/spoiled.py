"""Adapters with something wrong, each in a way that users meet, made from a good small one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Spoil = Callable[[Path], None]


def cut_short(folder: Path) -> None:
    """As an upload that broke off leaves it."""
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def with_config(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | changes))

    return spoil


def not_a_number(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-2] + b"\x00\x7e")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def without_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def unchanged(folder: Path) -> None:
    """Only the folder's name is wrong."""


# name of the folder -> what is wrong with it, the reason in status
SPOILED: Mapping[str, tuple[Spoil, str]] = {
    "cut-short": (cut_short, "FileTruncated"),
    "rank-mismatch": (with_config(r=4), "RankMismatch"),
    "dora": (with_config(use_dora=True), "DoraUnsupported"),
    "ia3": (with_config(peft_type="IA3"), "PeftTypeUnsupported"),
    "pickle": (pickled, "PickleRefused"),
    "nan": (not_a_number, "NotFinite"),
    "bias": (with_config(bias="all"), "BiasUnsupported"),
    "saved-modules": (with_config(modules_to_save=["lm_head"]), "ModulesToSaveUnsupported"),
    "no-weights": (without_weights, "WeightsMissing"),
    "no-config": (without_config, "ConfigMissing"),
    "a,b": (unchanged, "InvalidName"),
    "two words": (unchanged, "InvalidName"),
    "a..b": (unchanged, "InvalidName"),
    "sql--0123abcd": (unchanged, "InvalidName"),
}
