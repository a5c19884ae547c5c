"""Provenance of a file: versions, commit, and the executed config."""

from miram.provenance.executed_config import save_executed_config
from miram.provenance.versions import provenance

__all__ = ["provenance", "save_executed_config"]
