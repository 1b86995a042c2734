"""Fixtures, and hypothesis profiles: GENCTL_HYPOTHESIS=nightly runs many more cases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["GENCTL_COMPILE_AHEAD"] = "0"  # for subprocesses too; tests/test_ahead.py has its own

settings.register_profile(
    "default", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("GENCTL_HYPOTHESIS", "default"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Real data that does not travel with the project; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GENCTL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (GENCTL_DATA names another)")
    return folder
