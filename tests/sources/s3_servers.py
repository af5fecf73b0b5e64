"""Which S3 server these tests are for: moto's, or versitygw with `make test-s3`."""

from __future__ import annotations

import pytest

from e2e.stores.s3.chosen import s3_server_name

VERSITY = s3_server_name() == "versitygw"
only_moto = pytest.mark.skipif(VERSITY, reason="plays what only moto can be told to do: pages, ACLs, users, its log")
