import monai
import torch

import miram
from miram.handlers.provenance import provenance


def test_versions_and_facts_are_plain_values(tmp_path):
    facts = provenance(seed=3)
    assert facts["seed"] == 3
    assert (facts["miram"], facts["monai"], facts["torch"]) == (miram.__version__, monai.__version__, torch.__version__)
    torch.save(facts, tmp_path / "facts.pt")
    assert torch.load(tmp_path / "facts.pt", weights_only=True) == facts
