import os

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from miram.losses.two_views import TwoViewLoss
from miram.networks.two_views import TwoViewNetwork
from miram.networks.vit_encoder import ViTEncoder


def test_both_views_pass_the_same_encoder_and_projector(tiny_encoder):
    network = TwoViewNetwork(tiny_encoder, [16, 12]).eval()
    view = torch.randn(3, 1, 32, 32)
    first, second = network(view, view)
    assert first.shape == (3, 12)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, network.projector(tiny_encoder(view)[:, 0]))


def test_every_trained_weight_gets_a_gradient(tiny_encoder):
    network = TwoViewNetwork(tiny_encoder, [16])
    first, second = network(torch.randn(3, 1, 32, 32), torch.randn(3, 1, 32, 32))
    (first * second).sum().backward()
    unused = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert unused == []


def test_a_projector_needs_a_layer(tiny_encoder):
    with pytest.raises(ValueError, match="at least one layer"):
        TwoViewNetwork(tiny_encoder, [])


def train_and_validate(rank: int, processes: int, folder: str) -> None:
    """Two steps on a global batch of 6 images and a validation of 5, of which each process has its share."""
    if processes > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    torch.manual_seed(0)
    network = TwoViewNetwork(ViTEncoder(1, 32, 8, 24, 48, 2, 2), [16, 12])
    trained = nn.parallel.DistributedDataParallel(network) if processes > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    views = torch.randn(2, 6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    loss_function, label = TwoViewLoss(), views[0, rank::processes]
    losses = []
    for _ in range(2):
        loss = loss_function(trained(*views[:, rank::processes]), label)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        held_out = views[:, :5][:, rank::processes]
        validation = loss_function.per_image(network.eval()(*held_out), held_out[0])
    assert len(validation) == len(range(rank, 5, processes))
    if rank == 0:
        torch.save([network.state_dict(), [*losses, validation[0].item()]], f"{folder}/{processes}.pt")
    if processes > 1:
        dist.destroy_process_group()
        os._exit(0)  # DDP holds the process group, whose destructor can wait for its own threads forever


def test_two_processes_learn_what_one_learns_from_the_same_global_batch(tmp_path):
    """Gradients are summed in another order, so that figures agree to rounding."""
    train_and_validate(0, 1, str(tmp_path))
    multiprocessing.start_processes(train_and_validate, (2, str(tmp_path)), nprocs=2, start_method="fork")
    (one, expected), (two, found) = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-4)
