"""Whether the base model that an adapter was trained on is the one that is served, as far as names can tell."""

from __future__ import annotations

import re

from lora_operator.artifacts.folder import CONFIG_FILE
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

# A quantised copy has the layers of the model that it was made from, and QLoRA adapters name such a copy.
_QUANTISED = re.compile(r"(-(unsloth|bnb|4bit|8bit|nf4|awq|gptq|int4|int8|fp8|w4a16|w8a8|dynamic))+\Z")


def check_base_name(trained_on: str | None, served: str | None, aliases: tuple[str, ...] = ()) -> None:
    """Raise AdapterRefused if both names are known and cannot mean the same model.

    `aliases` are further names of the served model, such as the --model behind a --served-model-name.

    Case does not count, nor the organisation before the last '/', nor a suffix for quantisation. A local path says
    where the training found the model, not which one it is, so that it is not compared.
    """
    if trained_on is None or served is None or _is_local_path(trained_on) or _is_local_path(served):
        return
    if _last_part(trained_on) in {_last_part(name) for name in (served, *aliases)}:
        return
    raise AdapterRefused(
        RefusedReason.BASE_MODEL_MISMATCH,
        f"{CONFIG_FILE} has base_model_name_or_path={trained_on[:200]!r}, but {served[:200]!r} is served: declare the "
        "adapter for its own base model, or correct the field if it is the same model under another name",
    )


def _is_local_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~", "file:")) or "\\" in name or name in (".", "..")


def _last_part(name: str) -> str:
    return _QUANTISED.sub("", name.rstrip("/").rsplit("/", 1)[-1].lower())
