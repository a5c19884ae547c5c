"""Flags of the long versions."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many faults to try."""
    parser.addoption("--fuzz_cases", type=int, default=2000, help="damaged files and values in test_fuzz_*.py, in all")
    parser.addoption("--kills", type=int, default=0, help="faults of each workflow in test_interruption.py (0: skip)")
