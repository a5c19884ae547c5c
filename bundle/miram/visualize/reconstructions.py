"""What a masked autoencoder sees and what it reconstructs."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.losses.targets import patch_statistics
from miram.networks.patches import patch_grid, patchify, unpatchify
from miram.visualize.figures import save_figure

# hidden pixels (NaN) get a colour that no pixel has
_GRAY = colormaps["gray"].with_extremes(bad="#5b7fa6")


def reconstruction_columns(
    loss_function: MultiScaleReconstructionLoss,
    image: torch.Tensor,
    label: torch.Tensor,
    output: dict[str, list[torch.Tensor]],
    encoder_mask: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """
    The images of a panel.

    Args:
        loss_function: gives the sizes, and whether predictions are normalised.
        image: (B, C, *spatial) of the encoder's size.
        label: (B, C, *spatial), the image at the largest scale's size.
        encoder_mask: (B, N) bool, True where a patch was hidden from the encoder.

    Returns:
        by title, (B, C, *spatial) each: input, masked input, and per scale the reconstruction (visible patches are the
        target's own) and the target.
    """
    image, label = image.float(), label.float()
    columns = {"input": image, "what the encoder sees": hide(image, encoder_mask, loss_function.patch_size)}
    for index, scale in enumerate(loss_function.scale_names):
        target = downsample(label, loss_function.sizes[index])
        patches = patchify(target, loss_function.patch_size)
        prediction = loss_function.split(output["predictions"][index].float())[0]  # pixels
        if loss_function.normalize_targets:
            mean, std = patch_statistics(patches, loss_function.patch_std_floor)
            prediction = prediction * std + mean
        filled = torch.where(output["masks"][index][..., None], prediction, patches)
        grid = patch_grid(target.shape[2:], loss_function.patch_size)
        columns[f"reconstruction {scale}"] = unpatchify(filled, loss_function.patch_size, grid)
        columns[f"target {scale}"] = target
    return columns


def hide(image: torch.Tensor, mask: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Put NaN where the patches of an image (B, C, *spatial) are hidden by a mask (B, N)."""
    patches = patchify(image, patch_size).masked_fill(mask[..., None], float("nan"))
    return unpatchify(patches, patch_size, patch_grid(image.shape[2:], patch_size))


def plot_panel(columns: dict[str, torch.Tensor], path: str | os.PathLike[str], title: str, note: str = "") -> None:
    """
    Draw a row per image and a column per title; all columns of a row share the gray scale of the input.

    Args:
        columns: (B, C, *spatial) by title; the first channel is shown, of volumes the middle slice. NaN is drawn in
            blue.
        note: written below: what the reader must know to judge the pictures.
    """
    rows = len(next(iter(columns.values())))
    width = 2.4
    figure = Figure(figsize=(width * len(columns), width * rows + 0.9), layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize="small")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, images) in enumerate(columns.items()):
        for row in range(rows):
            low, high = columns["input"][row].min().item(), columns["input"][row].max().item()
            axis = axes[row][column]
            axis.set_axis_off()
            axis.imshow(_plane(images[row]), cmap=_GRAY, vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
            if row == 0:
                axis.set_title(f"{name}\n{' x '.join(map(str, images.shape[2:]))}", fontsize="small")
    save_figure(figure, path, dpi=120)


def _plane(image: torch.Tensor) -> torch.Tensor:
    """The first channel of an image (C, *spatial); the middle slice of a volume."""
    plane = image[0].detach().cpu()
    return plane if plane.ndim == 2 else plane[..., plane.shape[-1] // 2]
