"""The one error of adapter inspection, and its stable reasons."""

from __future__ import annotations

from enum import StrEnum


class RefusedReason(StrEnum):
    """Why an adapter is refused. Stable identifiers: they end up in status, and users match on them."""

    # the folder and its files
    FOLDER_MISSING = "FolderMissing"
    CONFIG_MISSING = "ConfigMissing"
    WEIGHTS_MISSING = "WeightsMissing"
    PICKLE_REFUSED = "PickleRefused"
    NOT_A_REGULAR_FILE = "NotARegularFile"
    NOT_READABLE = "NotReadable"
    LINK_ESCAPES = "LinkEscapes"
    FILE_CHANGED = "FileChanged"
    READ_FAILED = "ReadFailed"
    # adapter_config.json
    CONFIG_TOO_LARGE = "ConfigTooLarge"
    CONFIG_INVALID = "ConfigInvalid"
    RANK_INVALID = "RankInvalid"
    PEFT_TYPE_UNSUPPORTED = "PeftTypeUnsupported"
    DORA_UNSUPPORTED = "DoraUnsupported"
    BIAS_UNSUPPORTED = "BiasUnsupported"
    MODULES_TO_SAVE_UNSUPPORTED = "ModulesToSaveUnsupported"
    INIT_UNSUPPORTED = "InitUnsupported"
    FEATURE_UNSUPPORTED = "FeatureUnsupported"
    BASE_MODEL_MISMATCH = "BaseModelMismatch"
    # adapter_model.safetensors
    HEADER_INVALID = "HeaderInvalid"
    FILE_TRUNCATED = "FileTruncated"
    TRAILING_DATA = "TrailingData"
    DTYPE_UNSUPPORTED = "DtypeUnsupported"
    TENSOR_UNEXPECTED = "TensorUnexpected"
    PAIR_INCOMPLETE = "PairIncomplete"
    NOT_FINITE = "NotFinite"
    # both, and the base model
    RANK_MISMATCH = "RankMismatch"
    TARGETS_UNSUPPORTED = "TargetsUnsupported"
    TARGETS_MISMATCH = "TargetsMismatch"
    SHAPE_MISMATCH = "ShapeMismatch"
    LAYERS_MISMATCH = "LayersMismatch"


# What may well be different a moment later, without anybody deciding anything.
_TRANSIENT = frozenset({RefusedReason.FILE_CHANGED, RefusedReason.READ_FAILED})


class AdapterRefused(Exception):
    """These files must not be loaded. `message` names file and tensor, what is wrong, and what to do."""

    def __init__(self, reason: RefusedReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def transient(self) -> bool:
        """Whether reading again, with nothing repaired, may give another answer."""
        return self.reason in _TRANSIENT
