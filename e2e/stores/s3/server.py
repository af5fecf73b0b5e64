"""Starts moto's server as a process and fills it, with the real SDK."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

from e2e.stores.store_process import StoreProcess

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLEOFSTORE00", "AWS_SECRET_ACCESS_KEY": "made/up+secret/of/the/example/store"}
PAGE_KEYS = 20  # AWS lists 1,000 keys on a page: with fewer, tests turn pages without so many objects


class S3Server:
    """Use as a context manager. `folder` takes the log."""

    def __init__(self, folder: Path, region: str = "us-east-1") -> None:
        self.region = region
        self._process = self._start(folder)

    def _start(self, folder: Path) -> StoreProcess:
        return StoreProcess(
            "moto's server",
            lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            folder / "moto.log",
            {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE_KEYS)},
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._process.port}"

    @cached_property
    def client(self) -> Any:
        """A client of the real SDK that may do everything."""
        import botocore.session
        from botocore.config import Config

        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )

    def put(self, bucket: str, files: Mapping[str, bytes | Path]) -> None:
        """Store `files` by their keys, in a bucket that is made if there is none."""
        with suppress(self.client.exceptions.BucketAlreadyOwnedByYou):
            self.client.create_bucket(Bucket=bucket)
        for key, content in files.items():
            self.client.put_object(
                Bucket=bucket, Key=key, Body=content if isinstance(content, bytes) else content.read_bytes()
            )

    def requests(self, bucket: str) -> list[str]:
        """What was asked of a bucket so far, like 'GET /bucket/key?query'."""
        return self._process.requests(f"/{bucket}")

    def reset(self) -> None:
        """Forget everything that was stored."""
        self._control("reset")

    def enforce_rights(self, requests_before: int) -> None:
        """After so many requests more, ask for signatures and policies as AWS does; moto lets all pass before."""
        self._control("reset-auth", str(requests_before).encode())

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _control(self, what: str, body: bytes = b"") -> None:
        request = Request(f"{self.endpoint}/moto-api/{what}", body, {"Content-Type": "text/plain"}, method="POST")
        with urlopen(request, timeout=10) as answer:
            answer.read()
