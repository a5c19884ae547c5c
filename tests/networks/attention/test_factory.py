"""What every kind of attention promises, and the factory."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from monai.networks.blocks import SABlock
from torch import nn

from miram.networks.attention import LinformerAttention, make_attention

HIDDEN_SIZE, NUM_HEADS, SEQ_LEN = 32, 4, 36
KWARGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "nystromformer": {"num_landmarks": 8, "conv_kernel_size": 5},
    "linformer": {"proj_size": 8},
    "performer": {"num_features": 32, "seed": 0},
    "windowed": {"grid": (6, 6), "window_size": 3},
}
OWN_STATE = {
    "exact": set(),
    "nystromformer": {"conv.weight"},
    "linformer": {"key_projection", "value_projection"},
    "performer": {"features"},
    "windowed": set(),
}
PROJECTIONS = {"qkv.weight", "qkv.bias", "out_proj.weight", "out_proj.bias"}
every_kind = pytest.mark.parametrize("kind", KWARGS)


def make(kind: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return make_attention(kind, HIDDEN_SIZE, NUM_HEADS, SEQ_LEN, **{**KWARGS[kind], **kwargs})


def tokens(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, SEQ_LEN, HIDDEN_SIZE, generator=torch.Generator().manual_seed(1))


@every_kind
def test_state_is_that_of_sablock_and_little_more(kind: str) -> None:
    assert set(make(kind).state_dict()) == PROJECTIONS | OWN_STATE[kind]
    assert set(make(kind, qkv_bias=False).state_dict()) == PROJECTIONS - {"qkv.bias"} | OWN_STATE[kind]


@every_kind
def test_values_are_averaged_as_sablock_orders_its_heads(kind: str) -> None:
    """With queries and keys of 0 every kind is a mean over tokens, head by head: the order of weights must agree."""
    block = SABlock(HIDDEN_SIZE, NUM_HEADS, qkv_bias=True).double()
    weights = block.state_dict()
    weights["qkv.weight"][: 2 * HIDDEN_SIZE] = 0
    weights["qkv.bias"][: 2 * HIDDEN_SIZE] = 0
    whole = {"nystromformer": {"conv_kernel_size": None}, "windowed": {"window_size": 6}}
    attention = make(kind, **whole.get(kind, {})).double()
    assert attention.load_state_dict(weights, strict=False).unexpected_keys == []
    if isinstance(attention, LinformerAttention) and attention.value_projection is not None:
        nn.init.constant_(attention.value_projection, 1 / SEQ_LEN)
    torch.testing.assert_close(attention(tokens().double()), block(tokens().double()), rtol=0, atol=1e-12)


@every_kind
def test_float64_keeps_its_precision(kind: str) -> None:
    attention = make(kind).double()
    output = attention(tokens().double())
    assert output.dtype == torch.float64
    difference = (attention.float()(tokens()) - output).abs().max()
    assert 0 < difference < 1e-5  # 0 would mean that float64 was computed in float32


@pytest.mark.parametrize(("kind", "pure"), product(KWARGS, (False, True)))
def test_bfloat16_stays_near_float32(kind: str, pure: bool) -> None:
    """Under autocast and with bf16 weights; 0.006 is three roundings of at most 2^-9, one a matrix product."""
    attention = make(kind)
    expected = attention(tokens())
    with torch.autocast("cpu", torch.bfloat16, enabled=not pure):
        output = attention.bfloat16()(tokens().bfloat16()) if pure else attention(tokens())
    assert output.dtype == torch.bfloat16
    assert (output.float() - expected).norm() < 0.006 * expected.norm()


@every_kind
def test_compiles_to_one_graph(kind: str) -> None:
    attention = make(kind)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(tokens()), attention(tokens()), rtol=0, atol=0)


@every_kind
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traces(kind: str) -> None:
    attention = make(kind).eval()
    torch.testing.assert_close(torch.jit.trace(attention, tokens())(tokens()), attention(tokens()), rtol=0, atol=0)


@every_kind
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    """Else DistributedDataParallel waits for it."""
    attention = make(kind)
    attention(tokens()).square().sum().backward()
    without = [name for name, weight in attention.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@every_kind
def test_gradient_is_that_of_the_output(kind: str) -> None:
    attention = make(kind).double()
    x = tokens(batch=1).double().requires_grad_()
    assert torch.autograd.gradcheck(attention, (x,), fast_mode=True)


@every_kind
def test_a_sample_does_not_depend_on_its_batch(kind: str) -> None:
    attention = make(kind).double()
    batch = tokens(batch=3).double() * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1)
    expected = torch.cat([attention(sample) for sample in batch.split(1)])
    torch.testing.assert_close(attention(batch), expected, rtol=0, atol=1e-12)


@every_kind
def test_forward_is_deterministic(kind: str) -> None:
    attention = make(kind)
    assert torch.equal(attention(tokens()), attention(tokens()))


def test_exact_equals_plain_attention() -> None:
    attention = make("exact").double().eval()
    plain = SABlock(HIDDEN_SIZE, NUM_HEADS, qkv_bias=True).double()
    plain.load_state_dict(attention.state_dict(), strict=True)
    torch.testing.assert_close(attention(tokens().double()), plain(tokens().double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "flash"}, "should be one of exact, nystromformer, linformer, performer, windowed, got 'flash'"),
        ({"kind": "exact", "num_landmarks": 8}, "'exact' has no argument num_landmarks; it has: none"),
        ({"kind": "performer", "proj_size": 8}, "no argument proj_size; it has: num_features, seed, eps"),
    ],
)
def test_factory_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_attention(hidden_size=HIDDEN_SIZE, num_heads=NUM_HEADS, seq_len=SEQ_LEN, **arguments)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    product(KWARGS, ({"hidden_size": 30}, {"hidden_size": 0}, {"num_heads": 0}, {"seq_len": 0})),
)
def test_sizes_are_checked(kind: str, wrong: dict[str, int]) -> None:
    sizes = {"hidden_size": HIDDEN_SIZE, "num_heads": NUM_HEADS, "seq_len": SEQ_LEN, **wrong}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        make_attention(kind, sizes["hidden_size"], sizes["num_heads"], sizes["seq_len"], **KWARGS[kind])
