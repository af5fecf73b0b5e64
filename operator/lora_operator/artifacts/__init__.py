"""What an adapter folder holds, and whether an engine will do the right thing with it.

Everything here reads files and refuses early: engines accept many broken adapters without a word.
"""

from lora_operator.artifacts.base_shape import BaseModelShape
from lora_operator.artifacts.fingerprint import fingerprint
from lora_operator.artifacts.folder import CONFIG_FILE, WEIGHTS_FILE, AdapterFile
from lora_operator.artifacts.header import header_length
from lora_operator.artifacts.inspection import Inspection, inspect, inspect_parts
from lora_operator.artifacts.names import InvalidAdapterName, served_as, valid_adapter_name
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "AdapterFile",
    "AdapterRefused",
    "BaseModelShape",
    "Inspection",
    "InvalidAdapterName",
    "RefusedReason",
    "fingerprint",
    "header_length",
    "inspect",
    "inspect_parts",
    "served_as",
    "valid_adapter_name",
]
