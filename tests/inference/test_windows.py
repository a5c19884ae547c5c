import itertools

import numpy as np
import pytest
import torch

from miram.inference.windows import ToNetworkSize, WindowAxis, WindowGrid


@pytest.mark.parametrize(("length", "width", "stride"), itertools.product((1, 31, 32, 33, 100, 101), (32,), (1, 8, 30)))
def test_windows_reach_from_edge_to_edge_at_even_distances(length, width, stride):
    axis = WindowAxis.of(length, width, stride)
    padded = length + sum(axis.padding)
    assert padded == max(length, width)
    assert axis.window(0).start == 0
    assert axis.window(len(axis.starts) - 1).stop == padded
    assert np.diff(axis.starts, append=axis.starts[-1]).max() <= stride + 1  # rounded to whole pixels
    assert axis.centers.mean() == pytest.approx((length - 1) / 2, abs=0.5)


def test_each_pixel_belongs_to_the_nearest_window():
    axis = WindowAxis.of(100, 32, 16)
    distances = np.abs(np.arange(100)[:, None] - axis.centers)
    nearest = len(axis.starts) - 1 - distances[:, ::-1].argmin(axis=1)  # of two as near, the later
    expected = [bool((nearest[[3, 40, 99]] == window).any()) for window in range(len(axis.starts))]
    mask = np.isin(np.arange(100), [3, 40, 99])
    assert axis.largest_nearest(mask).tolist() == expected
    assert axis.cell(2) == slice(int((nearest < 2).sum()), int((nearest <= 2).sum()))


def test_interpolation_gives_straight_lines_between_centers_and_level_ones_beyond():
    axis = WindowAxis.of(96, 32, 16)
    line = axis.interpolation() @ axis.centers.astype(np.float32)
    np.testing.assert_allclose(line, np.clip(np.arange(96), axis.centers[0], axis.centers[-1]), rtol=1e-6)


def make_map(values, grid):
    return grid.interpolate(np.asarray(values, np.float32))


def test_the_highest_regions_are_the_peaks_in_their_order():
    grid = WindowGrid(WindowAxis.of(96, 32, 16), WindowAxis.of(128, 32, 16))
    values = np.full((5, 7), 0.1)
    values[1, 5], values[3, 1] = 0.9, 0.7
    first, second = grid.highest_regions(make_map(values, grid), count=2)
    # centres lie between two pixels: the peak of the interpolation is lower there by up to half a pixel's slope
    assert (first.probability, second.probability) == pytest.approx((0.9, 0.7), abs=0.05)
    assert (first.row, first.column) == pytest.approx((grid.rows.centers[1], grid.columns.centers[5]), abs=1)
    assert (second.row, second.column) == pytest.approx((grid.rows.centers[3], grid.columns.centers[1]), abs=1)


def test_the_level_band_at_an_edge_is_no_region_beside_a_higher_one():
    grid = WindowGrid(WindowAxis.of(32, 32, 16), WindowAxis.of(128, 32, 16))
    (only,) = grid.highest_regions(make_map([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5]], grid))
    assert only.column == pytest.approx(grid.columns.centers[5], abs=1)


def test_a_region_at_an_edge_is_in_the_middle_of_its_window():
    grid = WindowGrid(WindowAxis.of(32, 32, 16), WindowAxis.of(128, 32, 16))
    (only,) = grid.highest_regions(make_map([[0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1]], grid), count=1)
    assert (only.row, only.column) == (15, 15)


def test_a_region_whose_windows_middle_is_air_is_at_the_nearest_tissue():
    grid = WindowGrid(WindowAxis.of(64, 32, 16), WindowAxis.of(64, 32, 16))
    values = make_map([[0, 0, 0], [0, 1, 0], [0, 0, 0]], grid)
    values[:, :21] = 0
    best = grid.highest_regions(values)[0]
    assert (best.row, best.column) == (31, 31)
    values[:, :36] = 0  # now of all in the middle window's cell, 24 to 39, only the columns from 36 on are tissue
    assert (31, 36) in [(region.row, region.column) for region in grid.highest_regions(values)]


def test_a_weaker_region_is_found_beside_a_stronger_one():
    grid = WindowGrid(WindowAxis.of(32, 32, 16), WindowAxis.of(128, 32, 16))
    values = make_map([[0.5, 0.7, 0.6, 0.58, 0.65, 0.5, 0.5]], grid)
    found = [region.column for region in grid.highest_regions(values)]
    assert found[:2] == [int(grid.columns.centers[1]), int(grid.columns.centers[4])]


@pytest.mark.parametrize("stride", [16, 17, 32])
def test_regions_are_told_apart_where_windows_hardly_overlap(stride):
    grid = WindowGrid(WindowAxis.of(32, 32, stride), WindowAxis.of(32 + 6 * stride, 32, stride))
    values = make_map([[0.9, 0.3, 0.2, 0.7, 0.2, 0.3, 0.4]], grid)
    found = [region.column for region in grid.highest_regions(values)]
    assert found == [int(grid.columns.centers[index]) for index in (0, 3, 6)]


def test_where_all_is_zero_there_is_no_region():
    grid = WindowGrid.of((64, 64), (32, 32), 0.5)
    assert grid.highest_regions(np.zeros((64, 64), np.float32)) == []


def test_windows_are_reduced_as_in_training_or_enlarged():
    values = torch.arange(16.0).reshape(1, 1, 4, 4)
    torch.testing.assert_close(ToNetworkSize((2, 2))(values), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert ToNetworkSize((8, 8))(values).shape == (1, 1, 8, 8)
    torch.testing.assert_close(ToNetworkSize((8, 8))(values).mean(), values.mean())
