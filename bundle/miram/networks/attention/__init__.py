"""Self-attention with one interface: exact, and four kinds whose cost grows linearly with the number of tokens."""

from miram.networks.attention.base import ExactAttention, SelfAttention
from miram.networks.attention.factory import make_attention
from miram.networks.attention.linformer import LinformerAttention
from miram.networks.attention.nystrom import NystromAttention
from miram.networks.attention.performer import PerformerAttention
from miram.networks.attention.windowed import WindowedAttention

__all__ = [
    "ExactAttention",
    "LinformerAttention",
    "NystromAttention",
    "PerformerAttention",
    "SelfAttention",
    "WindowedAttention",
    "make_attention",
]
