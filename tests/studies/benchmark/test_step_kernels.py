import torch
from torch import nn

from studies.benchmark import step_cases
from studies.benchmark.step_cases import StepSettings, make_case
from studies.benchmark.step_kernels import Kernels, count_kernels


def test_views_and_empty_tensors_start_no_kernel():
    matrix = torch.ones(2, 3)
    with Kernels() as seen:
        matrix.t().unsqueeze(0).expand(4, 3, 2).detach()
        torch.empty(5)
    assert not seen.counts
    with Kernels() as seen:
        matrix.to(torch.bfloat16).t().add_(1)
    assert seen.counts == {"_to_copy": 1, "add_": 1}


def test_a_layer_is_cast_once_in_each_direction(monkeypatch):
    """Its weight, its bias and its input in the forward pass, the gradients of the first two in the backward pass."""
    monkeypatch.setitem(step_cases.ENCODERS, "tiny", (48, 96, 1, 2))
    settings = StepSettings("tiny", "bfloat16", 1, torch.device("cpu"))
    case = make_case("mae", settings)
    case.step = Layer()
    rows = {row["part"]: row for row in count_kernels(case)}
    assert (rows["forward and loss"]["casts"], rows["backward"]["casts"]) == (3, 2)
    assert rows["AdamW"]["kernels"] == 1 + 1  # and the count of steps
    assert rows["step"]["casts"] == sum(row["casts"] for part, row in rows.items() if part != "step")


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(224, 3)

    def forward(self, image, label, keep):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(image).sum()
