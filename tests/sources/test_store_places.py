"""Where requests point in object stores, and which versions belong together."""

from __future__ import annotations

import pytest

from lora_operator.sources import SourceError, SourceRequest
from lora_operator.sources.azure_place import place_of as azure_place
from lora_operator.sources.remote import asked_for
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_objects import ObjectPlace, bounded, folders_of
from lora_operator.sources.remote_versions import pinned
from lora_operator.sources.s3_place import place_of as s3_place
from tests.sources.adapter_bytes import CONFIG, WEIGHTS

PLACE = ObjectPlace("s3://b/", "p/", "p", "s3 aws b")


@pytest.mark.parametrize(
    ("endpoint", "is_aws"),
    [
        (None, True),
        ("https://s3.amazonaws.com", True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("https://s3-fips.dualstack.us-gov-west-1.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com", True),
        # what anybody can rent below amazonaws.com must not get at the operator's role
        ("http://s3.eu-west-1.amazonaws.com", False),
        ("https://s3-1234.us-east-1.elb.amazonaws.com", False),
        ("https://ec2-1-2-3-4.compute.amazonaws.com", False),
        ("https://s3.amazonaws.com.example.com", False),
        ("https://s3.amazonaws.com:8443", False),
        ("https://minio.example.com", False),
    ],
)
def test_knows_aws_from_those_who_look_like_it(endpoint: str | None, is_aws: bool) -> None:
    assert s3_place(SourceRequest("s3", "bucket", endpoint=endpoint)).is_aws is is_aws


@pytest.mark.parametrize(
    ("repository", "endpoint", "url", "is_azure"),
    [
        ("account/container", None, "https://account.blob.core.windows.net", True),
        (
            "account/container",
            "https://account.blob.core.chinacloudapi.cn/",
            "https://account.blob.core.chinacloudapi.cn",
            True,
        ),
        ("https://account.blob.core.windows.net/container/p", None, "https://account.blob.core.windows.net", True),
        ("account/container", "https://blob.example.com", "https://blob.example.com/account", False),
        ("account/container", "https://account.example.com", "https://account.example.com", False),
        ("account/container", "http://account.blob.core.windows.net", "http://account.blob.core.windows.net", False),
        (
            "https://account.blob.core.windows.net.example.com/container",
            None,
            "https://account.blob.core.windows.net.example.com",
            False,
        ),
    ],
)
def test_knows_azure_from_those_who_look_like_it(
    repository: str, endpoint: str | None, url: str, is_azure: bool
) -> None:
    place = azure_place(SourceRequest("azure", repository, endpoint=endpoint))
    assert (place.account, place.container, place.url, place.is_azure) == ("account", "container", url, is_azure)


def test_the_same_place_has_one_origin_however_it_is_written() -> None:
    def origin(repository: str, endpoint: str | None = None) -> str:
        return s3_place(SourceRequest("s3", repository, endpoint=endpoint)).objects.origin

    assert origin("s3://b1b/x") == origin("b1b/x/") != origin("b1b/x", "https://minio.example.com")
    assert origin("b1b", "https://minio.example.com") == origin("b1b", "https://MinIO.example.com/")


def objects(*keys: str) -> list[tuple[str, RemoteFile]]:
    return [(key, RemoteFile(key.rpartition("/")[2], 1, "t")) for key in keys]


def test_keys_make_up_folders() -> None:
    below = objects(
        "p/a/" + CONFIG, "p/a/" + WEIGHTS, "p/b/" + CONFIG, "p/c/d/" + CONFIG, "p/x.txt", "p/.h/" + CONFIG, "p/a/"
    )
    folders = folders_of(PLACE, below)
    assert [(folder.name, folder.location, len(folder.files)) for folder in folders] == [
        ("a", "s3://b/p/a/", 2),
        ("b", "s3://b/p/b/", 1),
    ]
    assert len({folder.origin for folder in folders}) == 2
    assert PLACE.key(folders[0].location, CONFIG) == "p/a/" + CONFIG


def test_an_adapter_right_at_the_prefix_hides_what_is_below_until_that_is_asked_for() -> None:
    folder, checkpoint = folders_of(PLACE, objects("p/" + WEIGHTS, "p/a/" + CONFIG))
    assert asked_for([folder, checkpoint], ()) == [folder] and checkpoint.below
    assert asked_for([folder, checkpoint], ("a",)) == [folder, checkpoint]
    assert (folder.name, folder.location, [file.path for file in folder.files]) == ("p", "s3://b/p/", [WEIGHTS])


def test_a_bucket_of_too_many_objects_is_refused() -> None:
    assert len(list(bounded(objects("p/1", "p/2"), "b", 2))) == 2
    with pytest.raises(SourceError) as caught:
        list(bounded(objects("p/1", "p/2", "p/3"), "b", 2))
    assert (caught.value.reason, caught.value.retryable) == ("TooManyFiles", False)


def a_version(path: str, version: str, at: float) -> RemoteFile:
    return RemoteFile(path, 1, "t", version=version, modified_at=at)


@pytest.mark.parametrize(("revision", "partner"), [("w1", "c1"), ("w2", "c2"), ("c1", "w1"), ("c2", "w2")])
def test_a_revision_takes_the_other_file_s_version_that_was_written_closest_to_it(revision: str, partner: str) -> None:
    versions = [
        a_version(CONFIG, "c1", 100), a_version(WEIGHTS, "w1", 130), a_version(WEIGHTS, "w2", 900),
        a_version(CONFIG, "c2", 1000), a_version("README.md", "w1", 100),
    ]  # fmt: skip
    for order in (versions, versions[::-1]):
        assert {file.version for file in pinned(order, revision, "b")} == {revision, partner}


def test_a_revision_needs_both_files() -> None:
    with pytest.raises(SourceError):
        pinned([a_version(CONFIG, "c1", 1)], "c1", "b")
