"""MinIO, an S3 server with answers of its own kind: the same tests on a store that many people run."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster.programs import MINIO, find_program
from e2e.stores.s3.server import KEYS, S3Server
from e2e.stores.store_process import StoreProcess


class MinioServer(S3Server):
    """Use as a context manager. `folder` takes the log and the buckets. The program is built where it is not cached."""

    def _start(self, folder: Path) -> StoreProcess:
        program, buckets, certificates = find_program(MINIO), folder / "buckets", folder / "certificates"
        buckets.mkdir()
        certificates.mkdir()
        surroundings = {
            "MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"],
            "MINIO_SITE_REGION": self.region,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",  # it would ask its makers for newer releases
        }

        def command(port: int) -> list[str | Path]:
            return [program, "server", "--address", f"127.0.0.1:{port}", "--certs-dir", certificates, buckets]

        return StoreProcess("MinIO", command, folder / "minio.log", surroundings, "/minio/health/ready")
