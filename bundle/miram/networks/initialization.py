"""Weight initialisation of masked autoencoders."""

from __future__ import annotations

from torch import nn


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
