"""Which S3 server these tests are for: moto's, or versitygw with `make test-s3`."""

from __future__ import annotations

import os

import pytest

VERSITY = os.environ.get("S3_SERVER") == "versitygw"
only_moto = pytest.mark.skipif(VERSITY, reason="plays what only moto can be told to do: pages, ACLs, users, its log")
