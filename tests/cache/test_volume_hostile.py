"""Names, paths and links that try to lead the store somewhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.artifacts import AdapterFile
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import (
    failure,
    left_over,
    names_in,
    versions,
)


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".tmp", "a,b", "a\0", "x--0123456789abcdef"])
async def test_refuses_hostile_names_before_it_touches_anything(root: Path, adapter: FoundAdapter, name: str) -> None:
    store = VolumeStore(root)
    assert (await failure(store, replace(adapter, name=name))).reason == "InvalidName"
    with pytest.raises(StoreError):
        store.path_of(name, adapter.fingerprint)
    assert names_in(root) == []


@pytest.mark.parametrize(
    "version", ["", "..", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "../../etc/passw"]
)
async def test_refuses_what_is_not_a_fingerprint(root: Path, adapter: FoundAdapter, version: str) -> None:
    assert (await failure(VolumeStore(root), replace(adapter, fingerprint=version))).reason == "InvalidFingerprint"


@pytest.mark.parametrize("path", ["../adapter_config.json", "/etc/passwd", "a/b", "..", "."])
async def test_refuses_files_that_are_not_in_the_folder_itself(root: Path, adapter: FoundAdapter, path: str) -> None:
    hostile = replace(adapter, files=(AdapterFile(path, 1, "00" * 32),))
    assert (await failure(VolumeStore(root), hostile)).reason in ("InvalidPath", "SourceChanged")
    assert versions(root) == []
    assert left_over(root) == []


@pytest.mark.parametrize("planted", ["alpaca", "version", ".partial", ".index"])
async def test_never_writes_through_a_link_that_somebody_planted(
    root: Path, adapter: FoundAdapter, tmp_path: Path, planted: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    if planted == "version":
        (root / "alpaca").mkdir()
    place = root / "alpaca" / adapter.fingerprint if planted == "version" else root / planted
    place.symlink_to(tmp_path / "elsewhere")
    error = await failure(VolumeStore(root), adapter)
    assert error.reason == ("IoError" if planted.startswith(".") else "PathOccupied")
    assert names_in(tmp_path / "elsewhere") == []
