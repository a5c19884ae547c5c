"""A classifier of examinations: attention pools the tiles of a view, then the views of a breast."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence


class GatedAttentionPooling(nn.Module):
    """
    Gated attention pooling of a set (Ilse, Tomczak and Welling, arXiv 1802.04712, equation 9).

    MONAI's `MILModel` pools without the gate, takes sets of one size only, and does not return the attention.
    """

    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.value = nn.Linear(hidden_size, attention_size)
        self.gate = nn.Linear(hidden_size, attention_size)
        self.score = nn.Linear(attention_size, 1)

    def forward(self, elements: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Pool sets.

        Args:
            elements: (B, N, D), padded.
            present: (B, N), bool, False where padded.

        Returns:
            (B, D), and the attention (B, N), which sums to 1.
        """
        scores = self.score(torch.tanh(self.value(elements)) * torch.sigmoid(self.gate(elements)))[..., 0]
        attention = scores.masked_fill(~present, float("-inf")).softmax(dim=1)
        return (attention[:, None] @ elements)[:, 0], attention


class ExamOutput(NamedTuple):
    """What :class:`ExamClassifier` returns."""

    breasts: torch.Tensor  # (B,) logits of the breasts
    views: torch.Tensor  # (W,) logits of the views
    attention: list[torch.Tensor]  # for each view, the attention (N,) of its tiles; its sum is 1


class ExamClassifier(nn.Module):
    """
    Features of tiles to a logit per view and per breast, with any number of views and tiles.

    Args:
        in_features: width of a tile's features, F.
        hidden_size: width in which tiles and views are pooled, D.
        dropout_rate: of the features and of pooled views.
    """

    def __init__(
        self, in_features: int, hidden_size: int = 128, attention_size: int = 64, dropout_rate: float = 0.25
    ) -> None:
        super().__init__()
        self.network_def: dict[str, Any] = {
            "in_features": in_features,
            "hidden_size": hidden_size,
            "attention_size": attention_size,
            "dropout_rate": dropout_rate,
        }
        self.register_buffer("feature_mean", torch.zeros(in_features))
        self.register_buffer("feature_std", torch.ones(in_features))
        self.embedding = nn.Sequential(nn.Dropout(dropout_rate), nn.Linear(in_features, hidden_size), nn.GELU())
        self.tiles = GatedAttentionPooling(hidden_size, attention_size)
        self.views = GatedAttentionPooling(hidden_size, attention_size)
        self.dropout = nn.Dropout(dropout_rate)
        self.head = nn.Linear(hidden_size, 1)

    def set_scale(self, tiles: torch.Tensor) -> None:
        """Standardise features as those of these tiles (M, F), of the training views."""
        self.feature_mean = tiles.mean(dim=0)
        self.feature_std = tiles.std(dim=0).clamp_min(1e-6)

    def forward(self, breasts: list[list[torch.Tensor]]) -> ExamOutput:
        """Classify B breasts: for each its views, each the features (N, F) of its tiles; W views in all."""
        tiles = [view for views in breasts for view in views]
        present = _present([len(view) for view in tiles], tiles[0].device)
        features = (pad_sequence(tiles, batch_first=True) - self.feature_mean) / self.feature_std
        pooled, attention = self.tiles(self.embedding(features), present)  # (W, D), (W, N)
        counts = [len(views) for views in breasts]
        grouped = pad_sequence(list(pooled.split(counts)), batch_first=True)  # (B, V, D)
        joined, _ = self.views(grouped, _present(counts, pooled.device))
        logits = self.head(self.dropout(torch.cat([joined, pooled])))[:, 0]
        shown = [row[: len(view)] for row, view in zip(attention, tiles, strict=True)]
        return ExamOutput(logits[: len(breasts)], logits[len(breasts) :], shown)


def _present(counts: list[int], device: torch.device) -> torch.Tensor:
    """(B, largest count), True for the elements that a set has."""
    return torch.arange(max(counts), device=device) < torch.tensor(counts, device=device)[:, None]
