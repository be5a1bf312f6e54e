"""What all decoding tests share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _compile_quickly(quick_to_compile):
    """These tests compile many small models."""
