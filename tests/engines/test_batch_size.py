"""With a memory that is made up; the network's own step runs on a CPU."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pytest
import torch

from miram.engines.batch_size import Batches, StepMemory, find_batches
from miram.engines.pretraining import PreparePretrainingBatch
from miram.errors import InputError
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking


@dataclass
class Memory:
    """A step takes 10 bytes for the weights and 1 per image; where more than `whole` is needed, torch gives up."""

    available: int
    whole: int = 10**6
    tried: list[int] = field(default_factory=list)

    def __call__(self, batch_size: int) -> int | None:
        self.tried.append(batch_size)
        return 10 + batch_size if 10 + batch_size <= self.whole else None


@pytest.mark.parametrize(
    ("images", "memory", "expected"),
    [
        (128, Memory(1000), Batches(128, 1)),
        (128, Memory(10 + 63), Batches(32, 4)),
        (128, Memory(1000, whole=10 + 64), Batches(64, 2)),  # the next one is out of memory
        (96, Memory(10 + 50), Batches(48, 2)),  # a step is divided evenly, so there is no batch of 50
        (7, Memory(1000), Batches(7, 1)),
    ],
)
def test_batches_are_the_largest_even_share_of_a_step_that_fits(images, memory, expected):
    assert find_batches("auto", 1, images, "cuda", memory) == expected
    assert expected.batch_size * expected.accumulation_steps == images


def test_sizes_are_doubled_until_one_does_not_fit():
    memory = Memory(10 + 20)
    find_batches("auto", 1, 128, "cuda", memory)
    assert memory.tried == [2, 4, 8, 16, 32]


def test_a_number_is_taken_as_it_is():
    assert find_batches(24, 3, 128, "cuda", None) == Batches(24, 3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_loss_that_compares_the_images_of_a_batch_needs_a_number(device):
    with pytest.raises(InputError, match="compares the images of a batch"):
        find_batches("auto", 1, 128, device, None, divisible=False)


def test_on_a_cpu_a_step_is_one_batch_and_a_line_says_so(caplog):
    with caplog.at_level("INFO"):
        assert find_batches("auto", 1, 128, "cpu", None) == Batches(128, 1)
    assert [record.message for record in caplog.records] == [
        "batch_size auto measures the memory of GPUs only: here it is images_per_step, 128"
    ]


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "memory", "message"),
    [
        ("large", 1, None, "batch_size is 'large'.*or auto"),
        ("auto", 4, None, "accumulation_steps 4.*set images_per_step"),
        ("auto", 1, Memory(11), "not even the smallest batch.*activation_checkpointing"),
    ],
)
def test_what_cannot_be_is_refused(batch_size, accumulation, memory, message):
    with pytest.raises(InputError, match=message):
        find_batches(batch_size, accumulation, 128, "cuda", memory)


def test_the_measured_step_is_one_of_training_and_changes_nothing(tiny_miram):
    """The step itself; memory is counted on a GPU only."""
    before, state = copy.deepcopy(tiny_miram.state_dict()), torch.get_rng_state()
    image_size = tuple(tiny_miram.encoder.img_size)
    loss = MultiScaleReconstructionLoss(image_size, tuple(tiny_miram.encoder.patch_size), tiny_miram.scales)
    seen = []
    prepare = PreparePretrainingBatch(RandomMasking(0.75), image_size, tiny_miram.encoder.num_tokens)

    def note(batch, *args, **kwargs):
        seen.append(len(batch["label"]))
        return prepare(batch, *args, **kwargs)

    label_shape = (1, *(round(size * max(tiny_miram.scales)) for size in image_size))
    StepMemory(tiny_miram, loss, note, "bfloat16", label_shape, "cpu").train(3)
    assert seen == [3, 3]
    assert all(torch.equal(value, before[name]) for name, value in tiny_miram.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_miram.parameters())
    assert torch.equal(torch.get_rng_state(), state)
