"""Failed assertions in the cases show their values, as those in tests do."""

import pytest

pytest.register_assert_rewrite("e2e.contract")
