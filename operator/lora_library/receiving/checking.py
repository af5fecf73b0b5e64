"""Which of the files that came are the adapter's, and whether they are good: before any byte is stored for good."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_library.problems import Problem
from lora_library.receiving.archive import kind_of, unpack
from lora_library.receiving.metadata import described
from lora_library.receiving.multipart import ReceivedFile
from lora_operator.api.rules import BASE_MODEL
from lora_operator.artifacts import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterRefused,
    BaseModelShape,
    RefusedReason,
    fingerprint,
    inspect,
)

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
HOW_TO_CONVERT = (
    "such files can run any code when they are read; save the adapter as safetensors: "
    'PeftModel.from_pretrained(base, "FOLDER").save_pretrained("NEW", safe_serialization=True), and upload '
    f"{CONFIG_FILE} and {WEIGHTS_FILE} of the new folder"
)
_CONFIG_BYTES = 1 << 20
_FORMAT = frozenset(
    {
        RefusedReason.CONFIG_MISSING, RefusedReason.WEIGHTS_MISSING, RefusedReason.PICKLE_REFUSED,
        RefusedReason.CONFIG_INVALID, RefusedReason.CONFIG_TOO_LARGE, RefusedReason.HEADER_INVALID,
        RefusedReason.FILE_TRUNCATED, RefusedReason.TRAILING_DATA,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BaseModels:
    """The base models that adapters may be for, with the shapes of those that are known; none: any may be."""

    shapes: Mapping[str, BaseModelShape | None]
    check_name: bool = True

    def choose(self, wanted: str | None, trained_on: str) -> str:
        """The base model of an upload. Raises Problem (UNKNOWN_BASE_MODEL)."""
        known = ", ".join(sorted(self.shapes))
        if wanted is None:
            if trained_on in self.shapes or not self.shapes:
                wanted = trained_on
            elif len(self.shapes) == 1:
                wanted = next(iter(self.shapes))
            else:
                raise Problem(
                    "UNKNOWN_BASE_MODEL",
                    f"{CONFIG_FILE} says base_model_name_or_path={trained_on[:200]!r}, which is not served: say with "
                    f"base_model which one it is for ({known})",
                )
        if self.shapes and wanted not in self.shapes:
            raise Problem("UNKNOWN_BASE_MODEL", f"{wanted[:200]!r} is not served: choose one of {known}")
        if not wanted or len(wanted) > BASE_MODEL.max_length or not BASE_MODEL.fits(wanted):
            raise Problem("UNKNOWN_BASE_MODEL", f"say with base_model what it is for: {BASE_MODEL.message}")
        return wanted


@dataclass(frozen=True, slots=True)
class Checked:
    """A good adapter in a folder of its own. `described` is what its files say of it, for people."""

    folder: Path
    base_model: str
    fingerprint: str
    size_bytes: int
    files: tuple[Mapping[str, Any], ...]
    described: Mapping[str, Any]


def arrange(files: Sequence[ReceivedFile], work: Path, most_bytes: int, take: Callable[[int], None]) -> Path:
    """A folder with the adapter's two files under their own names. `take`: room for what is unpacked. Blocking. Raises
    Problem (INVALID_FILE_FORMAT), and what `take` raises."""
    if not files:
        raise Problem("INVALID_REQUEST", "no file came: send it as the part file")
    if len(files) == 1 and (kind := kind_of(files[0])):
        files = unpack(files[0], kind, work, most_bytes, take)
    names = [_last(each.name) for each in files]
    for name, each in zip(names, files, strict=True):
        if name.lower().endswith(PICKLES) and WEIGHTS_FILE not in names:
            raise _pickle(name)
        if each.path.exists() and _is_pickle(each.path):
            raise _pickle(name)
    folder = work / "adapter"
    folder.mkdir()
    config = [each for each, name in zip(files, names, strict=True) if name == CONFIG_FILE]
    weights = [each for each, name in zip(files, names, strict=True) if name == WEIGHTS_FILE]
    weights = weights or [each for each, name in zip(files, names, strict=True) if name.endswith(".safetensors")]
    for found, wanted in ((config, CONFIG_FILE), (weights, WEIGHTS_FILE)):
        if len(found) != 1:
            seen = ", ".join(repr(name[:60]) for name in names[:8]) or "nothing"
            raise Problem(
                "INVALID_FILE_FORMAT",
                f"{'several' if found else 'no'} {wanted} came ({seen}): upload {CONFIG_FILE} and {WEIGHTS_FILE}, as "
                "PEFT's save_pretrained writes them, as two files or in one .zip or .tar.gz",
                detected=seen,
            )
        os.replace(found[0].path, folder / wanted)  # noqa: PTH105
    return folder


def check(folder: Path, base_models: BaseModels, wanted: str | None) -> Checked:
    """Blocking. Raises Problem: INVALID_FILE_FORMAT, ADAPTER_REFUSED with a reason, UNKNOWN_BASE_MODEL."""
    base_model = base_models.choose(wanted, _trained_on(folder / CONFIG_FILE))
    try:
        found = inspect(
            folder, base=base_models.shapes.get(base_model),
            served_base_model=base_model if base_models.check_name else None,
        )  # fmt: skip
    except AdapterRefused as refused:
        code = "INVALID_FILE_FORMAT" if refused.reason in _FORMAT else "ADAPTER_REFUSED"
        more = {"detected": refused.reason.value} if code == "INVALID_FILE_FORMAT" else {}
        raise Problem(code, refused.message, reason=refused.reason.value, **more) from None
    files = tuple({"path": each.path, "size_bytes": each.size_bytes, "sha256": each.sha256} for each in found.files)
    return Checked(
        folder, base_model, fingerprint(found.files), sum(each.size_bytes for each in found.files), files,
        described(found, folder / WEIGHTS_FILE),
    )  # fmt: skip


def _trained_on(config: Path) -> str:
    """What the config names, where it can be read at all: what is wrong with it is for inspection to say."""
    try:
        with config.open("rb") as file:
            content = json.loads(file.read(_CONFIG_BYTES))
        said = content.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return said if isinstance(said, str) else ""


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as content:
        head = content.read(120)
    torch_zip = head.startswith(b"PK\x03\x04") and (b"data.pkl" in head or b"/version" in head)
    # a header of safetensors may begin with the same two bytes, which are its length there
    pickled = len(head) > 1 and head[0] == 0x80 and head[1] in (2, 3, 4, 5) and head[8:9] != b"{"
    return torch_zip or pickled


def _pickle(name: str) -> Problem:
    return Problem(
        "INVALID_FILE_FORMAT", f"{name[:100]!r} is a pickle: {HOW_TO_CONVERT}", detected="pickle",
        reason=RefusedReason.PICKLE_REFUSED.value,
    )  # fmt: skip
