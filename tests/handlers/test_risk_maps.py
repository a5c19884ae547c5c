from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from miram.handlers.risk_maps import SegmentationMapHandler, write_map
from miram.inference.inputs import Inputs


@pytest.mark.parametrize("axes", [2, 3])
def test_a_map_keeps_values_shape_and_affine(tmp_path, axes):
    affine = np.array([[-0.05, 0, 0, 3], [0, -0.07, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1.0]])
    kept = affine if axes == 3 else affine[np.ix_([0, 1, 3], [0, 1, 3])]
    values = torch.rand(6, 9)
    shape = (6, 9, 1)[:axes]
    meta = {"spatial_shape": torch.tensor(shape), "original_affine": torch.from_numpy(kept)}
    write_map(tmp_path / "a.nii.gz", values if axes == 2 else values.reshape(1, 6, 9, 1), meta, "x" * 200)
    found = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), values.numpy().reshape(shape))
    expected = affine.copy()
    if axes == 2:
        expected[2, 3] = 0
    np.testing.assert_allclose(found.affine, expected)


def test_areas_keep_all_digits_beside_images_without_a_region(tmp_path, monkeypatch):
    monkeypatch.setattr("miram.handlers.risk_maps.result_facts", lambda *_: {})
    unused: Any = SimpleNamespace(roi_size=(8, 8))
    inputs = Inputs([], [], {"c.png": "damaged"})
    handler = SegmentationMapHandler(tmp_path, unused, inputs, unused, "lesion", 0.5, unused)
    handler.rows = [{"image": "a.png", "rank": 1, "row": 3, "column": 4, "pixels": 1_234_567}, {"image": "b.png"}]
    handler.write_tables(unused)
    assert "a.png,1,3,4,,1234567" in (tmp_path / "findings.csv").read_text()
