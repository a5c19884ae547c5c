"""Where a file comes from: versions, commit, and the config that was executed."""

from miram.provenance.executed_config import save_executed_config
from miram.provenance.versions import provenance

__all__ = ["provenance", "save_executed_config"]
