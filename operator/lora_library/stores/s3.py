"""A bucket of S3, or of a store that speaks as it does, through boto3's client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lora_library.stores.base import Missing, StoredKey, StoreError

PART_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20
_ABSENT = ("404", "NoSuchKey", "NotFound")


class S3Store:
    """See `Store`. Keys are those that the surroundings give (AWS_ACCESS_KEY_ID and so on, or a role).

    `seen_at` is the endpoint as the operator has it.
    """

    def __init__(self, bucket: str, prefix: str, endpoint: str = "", region: str = "", seen_at: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint, self._region = seen_at or endpoint, region
        style = "path" if endpoint else "auto"
        config = Config(
            connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": style}, max_pool_connections=32, request_checksum_calculation="when_required",
        )  # fmt: skip
        self._client: Any = boto3.session.Session().client(
            "s3", endpoint_url=endpoint or None, region_name=region or None, config=config
        )
        # a thread for each upload is enough, and parts in memory are bounded by their number
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )

    def put_file(self, key: str, file: Path) -> None:
        with self._explained(key):
            self._client.upload_file(str(file), self._bucket, self._prefix + key, Config=self._transfer)

    def put(self, key: str, content: bytes) -> None:
        with self._explained(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)

    def copy(self, source: str, target: str) -> None:
        with self._explained(source):
            place = {"Bucket": self._bucket, "Key": self._prefix + source}
            self._client.copy(place, self._bucket, self._prefix + target, Config=TransferConfig(use_threads=False))

    def get(self, key: str) -> bytes:
        return b"".join(self.read(key))

    def read(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        if begin or end is not None:
            place["Range"] = f"bytes={begin}-{'' if end is None else end - 1}"
        with self._explained(key), contextlib.closing(self._client.get_object(**place)["Body"]) as body:
            yield from body.iter_chunks(BLOCK_BYTES)

    def keys(self, prefix: str) -> Iterator[StoredKey]:
        with self._explained(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    key = str(item["Key"])[len(self._prefix) :]
                    yield StoredKey(key, int(item["Size"]), item["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def tidy(self, before: float) -> int:
        removed = 0
        with self._explained(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for item in page.get("Uploads", ()):
                    if item["Initiated"].timestamp() < before:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=item["Key"], UploadId=item["UploadId"]
                        )
                        removed += 1
        return removed

    def source(self, prefix: str) -> Mapping[str, str]:
        given = {"type": "s3", "repository": f"{self._bucket}/{self._prefix}{prefix}"}
        given |= {"endpoint": self._endpoint} if self._endpoint else {}
        return given | ({"region": self._region} if self._region else {})

    def check(self) -> None:
        with self._explained(""):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        shown = f"s3://{self._bucket}/{self._prefix}{key[:200]}"
        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            code = str(said.get("Code", ""))
            if code in _ABSENT:
                raise Missing(f"there is no {shown}") from None
            raise StoreError(f"{shown}: {code} {str(said.get('Message', ''))[:200]}") from None
        except (BotoCoreError, OSError, boto3.exceptions.Boto3Error) as error:
            raise StoreError(f"{shown}: {type(error).__name__}: {str(error)[:200]}") from None
