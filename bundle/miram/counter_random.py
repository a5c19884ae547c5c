"""
Random numbers for each sample that depend only on (seed, epoch, sample), drawn for a whole batch on its device.

A counter-based generator has no state. So there is nothing to save, and the numbers do not depend on the batch, the
process, the worker, the device or a restart.
"""

from __future__ import annotations

from enum import IntEnum

import torch

# splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): increment and multipliers,
# written as signed 64-bit numbers, as torch needs them.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)


class Stream(IntEnum):
    """What numbers are drawn for: a sample's numbers in different streams are independent."""

    MASK = 0
    AUGMENTATION = 1
    VIEW = 2


def random_bits(
    seed: int,
    epoch: int,
    index: torch.Tensor,
    count: int,
    device: torch.device | str | None = None,
    stream: Stream = Stream.MASK,
) -> torch.Tensor:
    """
    Draw 64 random bits, `count` times for each sample.

    Args:
        seed: another seed gives other bits.
        index: (B,) integer indices of the samples in their data set.
        count: how many to draw for each sample.
        device: device of the result; by default that of `index`.
        stream: what they are drawn for.

    Returns:
        (B, count) int64
    """
    to_gpu = device is not None and torch.device(device).type != "cpu"  # a copy to the CPU must be waited for
    index = index.to(device=device, dtype=torch.int64, non_blocking=to_gpu)
    counter = torch.arange(1, count + 1, device=index.device) + (int(stream) << 32)
    sample = _mix(_mix(index + _int64(seed * _GAMMA)) + _int64(epoch * _GAMMA))
    return _mix(sample[:, None] + counter[None] * _GAMMA)


def random_uniform(
    seed: int,
    epoch: int,
    index: torch.Tensor,
    count: int,
    device: torch.device | str | None = None,
    stream: Stream = Stream.MASK,
) -> torch.Tensor:
    """Draw `count` numbers in [0, 1) for each sample, (B, count) in float32; arguments as :func:`random_bits`."""
    bits = random_bits(seed, epoch, index, count, device, stream)
    return _shift(bits, 40).to(torch.float32) * 2.0**-24  # only as many bits as fit a float32: the result is below 1


def _int64(value: int) -> int:
    """Wrap an integer of any size to 64 bits, as tensor arithmetic does."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift; torch's is arithmetic and would keep the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64: every input bit flips every output bit with probability near one half."""
    value = (value ^ _shift(value, 30)) * _MULTIPLIER_1
    value = (value ^ _shift(value, 27)) * _MULTIPLIER_2
    return value ^ _shift(value, 31)
