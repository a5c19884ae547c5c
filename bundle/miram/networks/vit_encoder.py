"""The ViT encoder: MONAI's blocks and names, for whole images or only their visible patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import PatchEmbeddingBlock, TransformerBlock
from monai.networks.layers import DropPath
from monai.utils import ensure_tuple_rep
from torch import nn
from torch.utils.checkpoint import checkpoint

from miram.networks.attention.base import UnbindHeads
from miram.networks.patches import patch_grid


class EncoderBlock(TransformerBlock):
    """
    MONAI's `TransformerBlock` with fused attention and stochastic depth (Huang et al., arXiv 1603.09382).

    Args:
        drop_path_rate: probability that a sample skips the residual branches, in training.
    """

    def __init__(
        self, hidden_size: int, mlp_dim: int, num_heads: int, qkv_bias: bool = True, drop_path_rate: float = 0.0
    ) -> None:
        # MONAI 1.6.1 passes the dropout rate to the fused kernel in evaluation, too, so the rate stays 0.
        super().__init__(hidden_size, mlp_dim, num_heads, qkv_bias=qkv_bias, use_flash_attention=True)
        self.attn.input_rearrange = UnbindHeads(num_heads)
        # Not used without cross-attention: DDP would wait for its gradient forever. It stays for its key.
        self.norm_cross_attn.requires_grad_(False)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViTEncoder(nn.Module):
    """
    Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) that can leave out hidden patches, as in MAE (arXiv
    2111.06377).

    Its `state_dict` has the keys of `monai.networks.nets.ViT`: with `class_token` those of `ViT(classification=True)`
    without the head, otherwise those of `ViT(classification=False)`.

    Args:
        in_channels: channels of the image, C.
        img_size: image size in pixels, one number or one per spatial dimension; a multiple of the patch size.
        patch_size: patch size in pixels, one number or one per spatial dimension.
        hidden_size: width of a token, D.
        mlp_dim: width of the feed-forward layers.
        pos_embed_type: "sincos" (fixed, MAE's), "learnable" or "none", as MONAI names them.
        class_token: prepend a learned class token, as MAE does; it has no position.
        drop_path_rate: stochastic depth of the last block; the rate grows linearly from 0 at the first.
        activation_checkpointing: recompute the blocks in the backward pass to save memory.

    Raises:
        ValueError: if an image size is not a multiple of its patch size, or the width does not fit heads or positions.
    """

    def __init__(
        self,
        in_channels: int,
        img_size: Sequence[int] | int,
        patch_size: Sequence[int] | int,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        qkv_bias: bool = True,
        pos_embed_type: str = "sincos",
        spatial_dims: int = 2,
        class_token: bool = True,
        drop_path_rate: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.img_size = ensure_tuple_rep(img_size, spatial_dims)
        self.patch_size = ensure_tuple_rep(patch_size, spatial_dims)
        self.grid = patch_grid(self.img_size, self.patch_size)
        self.hidden_size = hidden_size
        check_sincos_width(hidden_size, spatial_dims, pos_embed_type)
        self.activation_checkpointing = activation_checkpointing
        self.network_def = _stock_arguments(
            in_channels=in_channels,
            img_size=list(self.img_size),
            patch_size=list(self.patch_size),
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            pos_embed_type=pos_embed_type,
            spatial_dims=spatial_dims,
            qkv_bias=qkv_bias,
        )
        self.patch_embedding = PatchEmbeddingBlock(
            in_channels=in_channels,
            img_size=self.img_size,
            patch_size=self.patch_size,
            hidden_size=hidden_size,
            num_heads=num_heads,
            proj_type="conv",
            pos_embed_type=pos_embed_type,
            spatial_dims=spatial_dims,
        )
        rates = torch.linspace(0, drop_path_rate, num_layers, device="cpu").tolist()
        self.blocks = nn.ModuleList(EncoderBlock(hidden_size, mlp_dim, num_heads, qkv_bias, rate) for rate in rates)
        self.norm = nn.LayerNorm(hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size)) if class_token else None
        initialize_mae_weights(self)

    @property
    def num_tokens(self) -> int:
        """Patches of an image, N; the class token is not counted."""
        return self.patch_embedding.position_embeddings.shape[1]

    def forward(self, image: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """
        Encode an image.

        Args:
            image: (B, C, *spatial) of the size given at construction.
            keep: (B, V) indices of the visible patches; None means all.

        Returns:
            normalised tokens, the class token first if there is one: (B, [1 +] N, D), or (B, [1 +] V, D) with `keep`.
        """
        tokens = self._embed(image, keep)
        for block in self.blocks:
            tokens = run_block(block, tokens, self.activation_checkpointing and self.training)
        return self.norm(tokens)

    def hidden_states(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The patches' tokens (B, N, D) after each block, the last ones normalised."""
        tokens, states = self._embed(image), []
        for block in self.blocks:
            tokens = run_block(block, tokens, self.activation_checkpointing and self.training)
            states.append(tokens)
        states[-1] = self.norm(tokens)
        return [state if self.cls_token is None else state[:, 1:] for state in states]

    def _embed(self, image: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        tokens = self.patch_embedding(image)  # (B, N, D), with positions
        if keep is not None:
            tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))  # (B, V, D)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        return tokens

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Reduce tokens (B, [1 +] N, D) to (B, D): the class token, or the mean of the patches without one."""
        return tokens.mean(dim=1) if self.cls_token is None else tokens[:, 0]


def run_block(block: nn.Module, tokens: torch.Tensor, checkpointing: bool, *context: torch.Tensor) -> torch.Tensor:
    """Run a block; with `checkpointing` keep only its inputs and run it again in the backward pass."""
    return checkpoint(block, tokens, *context, use_reentrant=False) if checkpointing else block(tokens, *context)


def check_sincos_width(hidden_size: int, spatial_dims: int, pos_embed_type: str = "sincos") -> None:
    """
    Check that sine-cosine positions fit the width: a sine and a cosine for each spatial dimension.

    Raises:
        ValueError: if they do not.
    """
    divisor = 2 * spatial_dims
    if pos_embed_type == "sincos" and hidden_size % divisor:
        raise ValueError(
            f"sincos positions in {spatial_dims}D need a hidden_size divisible by {divisor}, got {hidden_size}."
        )


def _stock_arguments(**arguments: Any) -> dict[str, Any]:
    """The arguments of a stock `monai.networks.nets.ViT` of the same shape, as plain Python values."""
    return {**arguments, "proj_type": "conv", "classification": False, "save_attn": False}


def initialize_mae_weights(network: nn.Module) -> None:
    """
    Initialise as MAE does (arXiv 2111.06377, appendix A.1): Xavier-uniform for linear layers and for patch embeddings
    (which are linear layers), zero biases, ones and zeros for layer norms, and class and mask tokens normal with
    standard deviation 0.02.

    Args:
        network: an encoder, a decoder or both; changed in place. Fixed position embeddings are not changed.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Conv3d) and module.groups == 1:
            nn.init.xavier_uniform_(module.weight.view(module.out_channels, -1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] in {"cls_token", "mask_token"}:
            nn.init.normal_(parameter, std=0.02)
