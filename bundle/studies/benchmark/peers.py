"""Masked autoencoders of other installed libraries, as training steps of the same size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.networks.nets import MaskedAutoEncoderViT
from monai.utils import optional_import
from torch import nn

from miram.engines.steps import autocast
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.variants import decoder_size


@dataclass(frozen=True)
class PeerSize:
    """The sizes of a peer: those of an encoder, and of MAE's decoder for it."""

    encoder: ViTEncoder
    precision: str
    mask_ratio: float = 0.75

    @property
    def decoder(self) -> dict[str, int]:
        """Two thirds of the encoder: 512 x 8 for ViT-B."""
        return decoder_size(self.encoder, 2 / 3)

    @property
    def mlp_dim(self) -> int:
        """Width of the encoder's feed-forward layers."""
        return self.encoder.blocks[0].mlp.linear1.out_features  # type: ignore[union-attr, return-value]

    @property
    def num_heads(self) -> int:
        """Attention heads of the encoder."""
        return self.encoder.blocks[0].attn.num_heads  # type: ignore[union-attr, return-value]


class Transformers(nn.Module):
    """`ViTMAEForPreTraining` of Hugging Face's transformers, with its own masks and loss."""

    def __init__(self, size: PeerSize) -> None:
        super().__init__()
        library, _ = optional_import("transformers")
        decoder, encoder = size.decoder, size.encoder
        config = library.ViTMAEConfig(
            hidden_size=encoder.hidden_size,
            num_hidden_layers=len(encoder.blocks),
            num_attention_heads=size.num_heads,
            intermediate_size=size.mlp_dim,
            image_size=encoder.img_size[0],
            patch_size=encoder.patch_size[0],
            num_channels=encoder.in_channels,
            decoder_hidden_size=decoder["hidden_size"],
            decoder_num_hidden_layers=decoder["num_layers"],
            decoder_num_attention_heads=decoder["num_heads"],
            decoder_intermediate_size=4 * decoder["hidden_size"],
            mask_ratio=size.mask_ratio,
            norm_pix_loss=True,
        )
        self.network = library.ViTMAEForPreTraining(config)
        self.precision = size.precision

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The loss of images (B, C, *spatial)."""
        with autocast(image.device, self.precision):
            return self.network(image).loss


class Monai(nn.Module):
    """MONAI's `MaskedAutoEncoderViT`, which has no loss, with our loss on masked patches. It fails in bf16 (1.6.1)."""

    def __init__(self, size: PeerSize) -> None:
        super().__init__()
        decoder, encoder = size.decoder, size.encoder
        self.network = MaskedAutoEncoderViT(
            in_channels=encoder.in_channels,
            img_size=encoder.img_size,
            patch_size=encoder.patch_size,
            hidden_size=encoder.hidden_size,
            mlp_dim=size.mlp_dim,  # the default is 512 for any width
            num_layers=len(encoder.blocks),
            num_heads=size.num_heads,
            masking_ratio=size.mask_ratio,
            decoder_hidden_size=decoder["hidden_size"],
            decoder_mlp_dim=4 * decoder["hidden_size"],
            decoder_num_layers=decoder["num_layers"],
            decoder_num_heads=decoder["num_heads"],
            spatial_dims=encoder.spatial_dims,
            qkv_bias=True,
        )
        self.loss = MultiScaleReconstructionLoss(encoder.img_size, encoder.patch_size, [1])
        self.precision = size.precision

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The loss of images (B, C, *spatial)."""
        with autocast(image.device, self.precision):
            prediction, mask = self.network(image)
        return self.loss({"predictions": [prediction], "masks": [mask.bool()], "places": [None]}, image)["loss"]


class Lightly(nn.Module):
    """MAE from lightly's parts and timm's `VisionTransformer`, as in its examples: predicts only hidden patches."""

    def __init__(self, size: PeerSize) -> None:
        super().__init__()
        parts, _ = optional_import("lightly.models.modules.masked_vision_transformer_timm")
        decoders, _ = optional_import("lightly.models.modules.masked_vision_transformer_decoder_timm")
        timm, _ = optional_import("timm.models.vision_transformer")
        self.utils, _ = optional_import("lightly.models.utils")
        encoder, width = size.encoder, size.decoder["hidden_size"]
        vit = timm.VisionTransformer(
            img_size=encoder.img_size[0],
            patch_size=encoder.patch_size[0],
            in_chans=encoder.in_channels,
            num_classes=0,
            embed_dim=encoder.hidden_size,
            depth=len(encoder.blocks),
            num_heads=size.num_heads,
            mlp_ratio=size.mlp_dim / encoder.hidden_size,
        )
        self.encoder = parts.MaskedVisionTransformerTIMM(vit)
        self.encoder.mask_token.requires_grad_(False)  # not used by MAE
        self.embedding = nn.Linear(encoder.hidden_size, width)
        self.decoder = decoders.MaskedVisionTransformerDecoderTIMM(
            encoder.num_tokens, width, size.decoder["num_layers"], size.decoder["num_heads"]
        )
        self.head = nn.Linear(width, encoder.patch_size[0] ** 2 * encoder.in_channels)
        self.size = size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The loss of images (B, C, *spatial)."""
        utils, size = self.utils, (image.shape[0], self.encoder.sequence_length)
        keep, hidden = utils.random_token_mask(size, self.size.mask_ratio, device=image.device)
        with autocast(image.device, self.size.precision):
            latent = self.embedding(self.encoder.encode(image, idx_keep=keep))
            tokens = utils.repeat_token(self.decoder.mask_token, size).to(latent.dtype)
            tokens = self.decoder(utils.set_at_index(tokens, keep, latent))
            prediction = self.head(utils.get_at_index(tokens, hidden))
        target = utils.get_at_index(utils.patchify(image, self.size.encoder.patch_size[0]), hidden - 1)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        return nn.functional.mse_loss(prediction.float(), (target - mean) / (variance + 1e-6).sqrt())


PEERS: dict[str, Callable[[PeerSize], nn.Module]] = {
    "transformers": Transformers,
    "monai": Monai,
    "lightly": Lightly,
}
