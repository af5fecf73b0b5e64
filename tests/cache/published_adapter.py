"""What the tests of the store share: an adapter as a source finds it, and looks at what a store left on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_operator.artifacts import fingerprint, inspect
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.sources import FoundAdapter
from tests.artifacts.written_adapter import write_adapter

REPOSITORY = Path(__file__).parents[2]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def an_adapter(folder: Path, name: str = "alpaca", *, seed: int = 0) -> FoundAdapter:
    """Written, inspected and fingerprinted as a source does it."""
    write_adapter(folder, seed=seed)
    return found_in(folder, name)


def found_in(folder: Path, name: str = "alpaca") -> FoundAdapter:
    inspection = inspect(folder)
    return FoundAdapter(name, fingerprint(inspection.files), inspection.files, inspection, str(folder))


def source_of(adapter: FoundAdapter) -> Path:
    return Path(adapter.location)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def left_over(root: Path) -> list[str]:
    return names_in(root / ".tmp")


def versions(root: Path) -> list[tuple[str, str]]:
    return sorted((path.parent.name, path.name) for path in root.glob("[!.]*/*"))


def is_whole(path: Path, adapter: FoundAdapter) -> bool:
    return fingerprint(inspect(path).files) == adapter.fingerprint


async def failure(store: VolumeStore, adapter: FoundAdapter) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await store.publish(adapter, source_of(adapter))
    return caught.value
