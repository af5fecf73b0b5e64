"""All kinds of stores do the same: a folder, S3 (moto's server), Azure Blob (Azurite)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.stores.azure import ACCOUNT, KEY, AzureServer, AzuriteUnavailable
from e2e.stores.s3 import KEYS, S3Server
from lora_library.stores.base import Missing, Store, StoreError, delete_below
from lora_library.stores.opening import open_store
from lora_operator.settings.options import SettingsError


@pytest.fixture(params=["folder", "s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "store"))
    elif request.param == "s3":
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        with S3Server(tmp_path) as server:
            server.client.create_bucket(Bucket="loras")
            yield open_store("s3://loras/here", endpoint=server.endpoint, region="us-east-1")
    else:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        try:
            azure = AzureServer(tmp_path)
        except AzuriteUnavailable as error:
            pytest.skip(str(error))
        azure.client.create_container("loras")
        yield open_store(f"azure://{ACCOUNT}/loras/here", endpoint=azure.endpoint)
        azure.close()


def test_what_is_put_is_read_copied_listed_and_deleted(store: Store, tmp_path: Path) -> None:
    store.check()
    file = tmp_path / "weights"
    file.write_bytes(b"w" * 100_000)
    store.put_file("objects/a/1/weights", file)
    store.put("objects/a/1/meta.json", b"{}")
    store.put("objects/ab/2/meta.json", b"")
    store.copy("objects/a/1/weights", "published/x/weights")
    store.put("objects/a/1/meta.json", b"[]")
    assert b"".join(store.read("published/x/weights")) == file.read_bytes()
    assert store.get("objects/a/1/meta.json") == b"[]"
    assert sorted((each.key, each.size_bytes) for each in store.keys("objects/a/")) == [
        ("objects/a/1/meta.json", 2), ("objects/a/1/weights", 100_000),
    ]  # fmt: skip
    assert all(abs(each.modified_at - time.time()) < 3600 for each in store.keys(""))
    assert delete_below(store, "objects/a/1") == 2
    store.delete("objects/a/1/weights")  # again is fine
    assert {each.key for each in store.keys("")} == {"objects/ab/2/meta.json", "published/x/weights"}
    with pytest.raises(Missing):
        store.get("objects/a/1/meta.json")
    with pytest.raises(Missing):
        store.copy("objects/a/1/weights", "published/y")
    store.tidy(time.time())
    assert str(store.source("published/x")["repository"]).endswith("/published/x")


def test_a_key_cannot_leave_a_folder(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(StoreError):
        store.put("../outside", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["", "relative/folder", "/a/../b", "s3://", "s3://UPPER", "azure://account", "ftp://a"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="--store"):
        open_store(address)
