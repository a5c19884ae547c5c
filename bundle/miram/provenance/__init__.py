"""Provenance of a file: versions, commit, and the executed config."""

from miram.provenance.executed_config import check_command_line, save_executed_config
from miram.provenance.versions import provenance

__all__ = ["check_command_line", "provenance", "save_executed_config"]
