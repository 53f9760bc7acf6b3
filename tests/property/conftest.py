"""Lets asserts of the state machine tell what they compared, as those of test files do."""

from __future__ import annotations

import pytest

# Not the folder: others have read the model before.
PARTS = ("machine", "rules_of_consumers", "rules_of_others", "protocol")
pytest.register_assert_rewrite(*(f"tests.property.{part}" for part in PARTS))
