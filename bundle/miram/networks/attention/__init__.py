"""Self-attention in one interface: exact, and three kinds whose cost grows linearly with the number of tokens."""

from miram.networks.attention.base import SelfAttention
from miram.networks.attention.exact import ExactAttention
from miram.networks.attention.factory import make_attention
from miram.networks.attention.linformer import LinformerAttention
from miram.networks.attention.nystrom import NystromAttention
from miram.networks.attention.performer import PerformerAttention

__all__ = [
    "ExactAttention",
    "LinformerAttention",
    "NystromAttention",
    "PerformerAttention",
    "SelfAttention",
    "make_attention",
]
