"""Which S3 server these tests are for: moto's, or a real one with `make test-s3`."""

from __future__ import annotations

import pytest

from e2e.stores.s3.chosen import s3_server_name

REAL = s3_server_name() != "moto"
only_real = pytest.mark.skipif(not REAL, reason="asks what real servers do: `make test-s3`")
only_moto = pytest.mark.skipif(REAL, reason="plays what only moto can be told to do: pages, ACLs, users, its log")
