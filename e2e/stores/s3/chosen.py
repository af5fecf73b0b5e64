"""Which S3 server is meant: moto's, or one of the real ones, that S3_SERVER names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from e2e.stores.s3.minio import MinioServer
from e2e.stores.s3.server import S3Server
from e2e.stores.s3.versity import VersityServer

VARIABLE = "S3_SERVER"
SERVERS = {"moto": S3Server, "versitygw": VersityServer, "minio": MinioServer}


def s3_server_name(environment: Mapping[str, str] | None = None) -> str:
    """Raises ValueError for a name that is none."""
    name = (os.environ if environment is None else environment).get(VARIABLE) or "moto"
    if name not in SERVERS:
        raise ValueError(f"{VARIABLE}={name}: no such server is known, choose one of {', '.join(SERVERS)}")
    return name


def start_s3_server(folder: Path, name: str | None = None, region: str = "us-east-1") -> S3Server:
    """`folder` takes the log, and what is kept. A real server is built at the first time; moto's takes any region."""
    return SERVERS[name or s3_server_name()](folder, region)
