"""versitygw, an S3 server on a folder: the same tests on a store that was not made for tests."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster.programs import VERSITYGW, find_program
from e2e.stores.s3.server import KEYS, S3Server
from e2e.stores.store_process import StoreProcess


class VersityServer(S3Server):
    """Use as a context manager. `folder` takes the log and the buckets. The program is built where it is not cached."""

    def _start(self, folder: Path) -> StoreProcess:
        program, buckets, versions = find_program(VERSITYGW), folder / "buckets", folder / "versions"
        buckets.mkdir()
        versions.mkdir()
        access, secret = KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]

        def command(port: int) -> list[str | Path]:
            address = ["--port", f"127.0.0.1:{port}", "--region", self.region]
            keys = ["--access", access, "--secret", secret]
            return [program, *address, *keys, "posix", "--versioning-dir", versions, buckets]

        return StoreProcess("versitygw", command, folder / "versitygw.log", {})
