"""Flags of the long versions."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many faults to try."""
    parser.addoption("--kills", type=int, default=0, help="faults of each workflow in test_interruption.py (0: skip)")
