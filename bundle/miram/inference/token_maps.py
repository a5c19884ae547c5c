"""A whole view as a map of a frozen encoder's tokens."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from miram.engines.steps import autocast
from miram.errors import InputError
from miram.inference.mammograms import whole_breast
from miram.inference.window_encoder import WindowEncoder, load_frozen_encoder
from miram.transforms.token_maps import STEP


@dataclass(eq=False, kw_only=True)
class TokenMapEncoder(WindowEncoder):
    """
    A frozen encoder that describes a view by a map of tokens.

    The view is cut into two grids of windows, shifted by half a window. Where they overlap, a token counts the more the
    farther it is from the edge of its window, where an encoder sees only one side of it.

    Raises:
        InputError: if a token is not a whole number of pixels, the same along both axes, or there is no such block.
    """

    blocks: Sequence[int] | None = None  # whose tokens are used, from 1; None: the middle and the last one

    def __post_init__(self) -> None:
        super().__post_init__()
        depth = len(self.encoder.blocks)
        self.blocks = sorted({max(depth // 2, 1), depth}) if self.blocks is None else [int(one) for one in self.blocks]
        if not self.blocks or not all(1 <= one <= depth for one in self.blocks):
            raise InputError(f"blocks are {self.blocks}; give numbers from 1 to {depth}, the encoder's last block")
        if self.batch_size < 1:
            raise InputError(f"window_batch_size is {self.batch_size}; give 1 or more windows")
        pitches = {length / count for length, count in zip(self.field_of_view, self.encoder.grid, strict=True)}
        self.pixels_per_token = round(min(pitches))
        if pitches != {self.pixels_per_token} or self.pixels_per_token < 1:
            grid = " x ".join(map(str, self.encoder.grid))
            raise InputError(
                f"field_of_view is {self.field_of_view}, but a window has {grid} tokens: give the same multiple of both"
            )

    @property
    def num_channels(self) -> int:
        """Of a map: the tokens' width for each block, and one that says where the breast is."""
        assert self.blocks is not None
        return len(self.blocks) * self.encoder.hidden_size + 1

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the map of a view, as plain values."""
        return {**super().settings, "blocks": self.blocks}

    @torch.no_grad()
    def map(self, pixels: np.ndarray) -> np.ndarray:
        """
        Describe a view.

        Args:
            pixels: (H, W), 0..65535, high = bright.

        Returns:
            (D, rows, columns) float16: row and column n describe the pixels from n times `pixels_per_token` on. The
            last channel is 1 where they show the breast, otherwise 0. Windows without the breast are 0.

        Raises:
            InputError: if no breast is found.
        """
        breast = whole_breast(pixels)
        canvas = _Canvas.of(pixels.shape, self.encoder.grid, self.pixels_per_token)
        image, inside = canvas.place(pixels), canvas.place(breast)
        starts = [start for start in canvas.starts() if inside[canvas.window(start)].any()]
        total = np.zeros((*canvas.shape, self.num_channels - 1), np.float32)
        weight = np.zeros((*canvas.shape, 1), np.float32)
        tent = canvas.tent()
        for start, tokens in zip(starts, self._tokens([image[canvas.window(start)] for start in starts]), strict=True):
            place = tuple(slice(first, first + length) for first, length in zip(start, canvas.grid, strict=True))
            total[place] += tokens * tent
            weight[place] += tent
        total /= np.maximum(weight, 1e-6)
        shown = inside.reshape(canvas.shape[0], self.pixels_per_token, canvas.shape[1], self.pixels_per_token)
        values = np.concatenate([total, shown.max(axis=(1, 3))[..., None]], axis=2)[canvas.inner()]
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float16)

    def _tokens(self, windows: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The tokens (rows, columns, D) of windows (h, w), one after the other."""
        for start in range(0, len(windows), self.batch_size):
            batch = np.stack(windows[start : start + self.batch_size])
            inputs = torch.from_numpy(batch.astype(np.float32))[:, None].to(self.device)
            with autocast(self.device, self.precision):
                states = self.encoder.hidden_states(self.to_input(inputs))
            assert self.blocks is not None
            chosen = torch.cat([states[number - 1].float() for number in self.blocks], dim=2)
            yield from chosen.unflatten(1, self.encoder.grid).cpu().numpy()


@dataclass(frozen=True)
class _Canvas:
    """A view in air: half a window before it, and room behind it for the last windows of both grids."""

    shape: tuple[int, int]  # in tokens
    view: tuple[int, int]  # rows and columns of the view's map
    grid: Sequence[int]  # tokens of a window
    pitch: int  # pixels per token

    @classmethod
    def of(cls, shape: Sequence[int], grid: Sequence[int], pitch: int) -> _Canvas:
        rows, columns = (STEP * math.ceil(length / (STEP * pitch)) for length in shape)
        height, width = rows + grid[0] // 2 + grid[0], columns + grid[1] // 2 + grid[1]
        return cls((height, width), (rows, columns), grid, pitch)

    @property
    def margin(self) -> tuple[int, int]:
        return self.grid[0] // 2, self.grid[1] // 2

    def place(self, values: np.ndarray) -> np.ndarray:
        top, left = (margin * self.pitch for margin in self.margin)
        placed = np.zeros([length * self.pitch for length in self.shape], values.dtype)
        placed[top : top + values.shape[0], left : left + values.shape[1]] = values
        return placed

    def starts(self) -> list[tuple[int, int]]:
        """The first token of each window of both grids; together they cover the view twice."""
        found: list[tuple[int, int]] = []
        for shift in ((0, 0), self.margin):
            ends = [margin + length for margin, length in zip(self.margin, self.view, strict=True)]
            rows, columns = (range(*axis) for axis in zip(shift, ends, self.grid, strict=True))
            found += itertools.product(rows, columns)
        return found

    def window(self, start: Sequence[int]) -> tuple[slice, slice]:
        """The pixels of a window."""
        rows, columns = (
            slice(first * self.pitch, (first + length) * self.pitch)
            for first, length in zip(start, self.grid, strict=True)
        )
        return rows, columns

    def tent(self) -> np.ndarray:
        """The weights of a window's tokens, (rows, columns, 1)."""
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5 for n in self.grid)
        return np.outer(rows, columns)[..., None].astype(np.float32)

    def inner(self) -> tuple[slice, slice]:
        """The tokens of the view."""
        rows, columns = (slice(margin, margin + length) for margin, length in zip(self.margin, self.view, strict=True))
        return rows, columns


def load_token_map_encoder(
    backbone: str | os.PathLike[str],
    device: torch.device | str,
    field_of_view: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    batch_size: int = 64,
    num_heads: int | None = None,
    precision: str = "float32",
) -> TokenMapEncoder:
    """
    Load a pretrained encoder for maps; see :class:`TokenMapEncoder`.

    Args:
        backbone: see :func:`miram.inference.window_encoder.load_frozen_encoder`, also for `field_of_view` and
            `num_heads`.

    Raises:
        InputError: as there, and as for :class:`TokenMapEncoder`.
    """
    frozen = load_frozen_encoder(backbone, device, field_of_view, num_heads)
    return TokenMapEncoder(**frozen, blocks=blocks, batch_size=batch_size, precision=precision)
