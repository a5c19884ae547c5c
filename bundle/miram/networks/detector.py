"""A detector of lesions on the tokens of a frozen encoder: MONAI's RetinaNet on two levels of one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from torch import nn

from miram.errors import InputError
from miram.transforms.token_maps import STEP

LEVELS = (1, STEP)  # tokens per place of each level, along an axis


@dataclass(frozen=True)
class DetectorOutput:
    """What the heads say of each anchor of a batch of maps."""

    heads: dict[str, torch.Tensor]  # "classification" (B, A, 1), logits, and "box_regression" (B, A, 4), float32
    anchors: list[torch.Tensor]  # of each view (A, 4)
    places: list[int]  # of each level
    size: list[int]  # of the views, in pixels


class TokenPyramid(nn.Module):
    """
    Two levels of features from one map: its own places, and the maximum over 2 x 2 of them.

    ViTDet (arXiv 2203.16527, section 3) also makes its levels from one map of a plain ViT; its finer ones are left out.

    Args:
        in_channels: of the map.
        out_channels: of the levels, a multiple of 8.
        dropout_rate: share of the map's channels that is left out in training.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout_rate: float) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.reduce = nn.Sequential(
            # tokens of different blocks differ in scale; slow averages, since a batch holds few views
            nn.BatchNorm2d(in_channels, affine=False, momentum=0.02),
            nn.Dropout2d(dropout_rate),
            nn.Conv2d(in_channels, out_channels, 1),
            nn.GroupNorm(8, out_channels),
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.MaxPool2d(level) if level > 1 else nn.Identity(),
                nn.Conv2d(out_channels, out_channels, 3, padding=1),
                nn.GroupNorm(8, out_channels),
                nn.ReLU(),
            )
            for level in LEVELS
        )

    def forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        """(B, D, H, W) -> for each level (B, C, H / level, W / level)."""
        reduced = self.reduce(maps)
        return [level(reduced) for level in self.levels]


class LesionDetector(RetinaNetDetector):
    """
    MONAI's RetinaNet (arXiv 1708.02002) on token maps, with one class.

    Anchors are squares. They are matched by ATSS (arXiv 1912.02424); of the others the ones with the highest scores are
    the negatives (hard negative sampling, as in nnDetection, arXiv 2106.00817). Boxes are in pixels of the view.

    Args:
        in_channels: of a map.
        pixels_per_token: of the view, along both axes.
        anchor_sizes: sides of the anchors in pixels, rounded: the smaller half is for the first level.
        hidden_size: channels of the levels and heads, a multiple of 8.
        num_convs: of each head, 1 to 4.
        dropout_rate: see :class:`TokenPyramid`.
        nms_overlap: of two candidates with a larger intersection over union, only the better is kept.
        max_candidates: per view.

    Raises:
        InputError: if the number of anchor sizes is odd, one is below a pixel, or another argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        pixels_per_token: int,
        anchor_sizes: Sequence[float],
        hidden_size: int = 64,
        num_convs: int = 2,
        dropout_rate: float = 0.1,
        nms_overlap: float = 0.05,
        max_candidates: int = 50,
    ) -> None:
        anchors = sorted(map(round, anchor_sizes))
        if not anchors or len(anchors) % len(LEVELS) or anchors[0] < 1:
            raise InputError(f"anchor_sizes are {list(anchor_sizes)}; give an even number of sizes, in pixels")
        if not (1 <= num_convs <= 4 and hidden_size > 0 and hidden_size % 8 == 0):
            raise InputError(
                f"num_convs is {num_convs} and hidden_size {hidden_size}; give 1 to 4, and a multiple of 8"
            )
        if not (0 <= nms_overlap < 1 and max_candidates > 0):
            raise InputError(
                f"nms_overlap is {nms_overlap} and max_candidates {max_candidates}; give 0 to below 1, and 1 or more"
            )
        each = len(anchors) // len(LEVELS)
        sizes = [tuple(anchors[at : at + each]) for at in range(0, len(anchors), each)]
        network = RetinaNet(2, 1, each, TokenPyramid(in_channels, hidden_size, dropout_rate), size_divisible=STEP)
        for head in (network.classification_head, network.regression_head):
            layers = list(head.conv)[: 3 * num_convs]  # MONAI's heads have four convolutions, each with norm and ReLU
            head.conv = nn.Sequential(*layers)
        super().__init__(network, AnchorGenerator(sizes=sizes, aspect_ratios=((1.0,),) * len(LEVELS)))
        self.pixels_per_token = pixels_per_token
        self.network_def: dict[str, Any] = {
            "in_channels": in_channels,
            "pixels_per_token": pixels_per_token,
            "anchor_sizes": anchors,
            "hidden_size": hidden_size,
            "num_convs": num_convs,
            "dropout_rate": dropout_rate,
            "nms_overlap": nms_overlap,
            "max_candidates": max_candidates,
        }
        # a low score and many places, so that the curve goes on to many false alarms
        self.set_box_selector_parameters(
            score_thresh=0.002, topk_candidates_per_level=400, nms_thresh=nms_overlap, detections_per_img=max_candidates
        )

    def forward(self, maps: torch.Tensor) -> DetectorOutput:  # type: ignore[override]
        """
        Apply the heads to maps.

        Args:
            maps: (B, D, H, W); H and W are even.
        """
        # float32: MONAI's anchors take the type of the heads, and bfloat16 cannot tell neighbouring pixels apart
        outputs = {name: [one.float() for one in levels] for name, levels in self.network(maps).items()}
        size = [length * self.pixels_per_token for length in maps.shape[2:]]
        # MONAI takes the distances of anchors from the view's size; of the view, only the shape is needed
        view = maps.new_zeros(1).expand(len(maps), 1, *size)
        self.generate_anchors(view, outputs)
        assert self.anchors is not None
        places = [level.shape[2:].numel() for level in outputs[self.cls_key]]
        heads = {name: self._reshape_maps(levels) for name, levels in outputs.items()}
        return DetectorOutput(heads, self.anchors, places, size)

    def loss(self, output: DetectorOutput, targets: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        The loss of a batch.

        Args:
            targets: of each view (M, 4), boxes x0, y0, x1, y1.

        Returns:
            "loss", the sum of "loss_class" (cross-entropy of the sampled anchors) and "loss_box" (smooth L1).
        """
        if not hasattr(self, "proposal_matcher"):  # only training needs both, and MONAI logs that they are used
            # chosen in trials on CBIS-DDSM's masses (docs/detection.md); 16 negatives also without a lesion in the crop
            self.set_atss_matcher(num_candidates=4)
            self.set_hard_negative_sampler(batch_size_per_image=64, positive_fraction=0.25, min_neg=16, pool_size=20)
        boxes = [
            {"boxes": target[:, [1, 0, 3, 2]], "labels": target.new_zeros(len(target), dtype=torch.long)}
            for target in targets
        ]
        losses = self.compute_loss(output.heads, boxes, output.anchors, output.places)
        parts = {"loss_class": losses[self.cls_key], "loss_box": losses[self.box_reg_key].to(output.anchors[0].device)}
        return {"loss": parts["loss_class"] + parts["loss_box"], **parts}

    @torch.no_grad()
    def candidates(self, output: DetectorOutput) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each view boxes (N, 4), x0, y0, x1, y1, and their scores (N,), 0 to 1, the highest first."""
        sizes = [output.size] * len(output.anchors)
        found = self.postprocess_detections(dict(output.heads), output.anchors, sizes, output.places)
        result = []
        for one in found:
            order = one[self.pred_score_key].argsort(descending=True, stable=True)
            result.append((one[self.target_box_key][order][:, [1, 0, 3, 2]], one[self.pred_score_key][order]))
        return result

    def compute_anchor_matched_idxs(
        self,
        anchors: list[torch.Tensor],
        targets: list[dict[str, torch.Tensor]],
        num_anchor_locs_per_level: Sequence[int],
    ) -> list[torch.Tensor]:
        """
        See MONAI, whose own method fails without torchvision: it asks first whether the matcher is torchvision's.

        Returns:
            for each view (A,) the number of the anchor's box, or -1.
        """
        matched = []
        for own, target in zip(anchors, targets, strict=True):
            found = own.new_full((len(own),), -1, dtype=torch.long)
            boxes = target["boxes"].to(own)
            if len(boxes):
                _, found = self.proposal_matcher(boxes, own, num_anchor_locs_per_level, self.num_anchors_per_loc)
            matched.append(found)
        return matched
