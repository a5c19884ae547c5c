"""A prepared folder of whole views and a tiny backbone: a breast is malignant if it has a bright square."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miram.data.datalist import write_datalist
from miram.networks.vit_encoder import ViTEncoder
from miram.prepare.prepared import write_png16
from miram.weights.backbone import backbone_from_encoder, save_weights_file

SHAPE = (96, 64)
PREPROCESSING = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


def make_view(malignant: bool, rng: np.random.Generator) -> np.ndarray:
    """Tissue along the left edge, in air; in a malignant view a bright square of 12 pixels."""
    view = np.zeros(SHAPE, np.uint16)
    view[8:-8, :48] = rng.integers(15_000, 25_000, size=(SHAPE[0] - 16, 48))
    if malignant:
        row, column = rng.integers(20, 60), rng.integers(8, 28)
        view[row : row + 12, column : column + 12] = 60_000
    return view


def make_views(folder: Path, patients: dict[str, int], crops: str = "whole") -> Path:
    """Each patient has two views of the left breast, and every third one of the right breast, which is benign."""
    rng = np.random.default_rng(0)
    splits: dict[str, list[dict[str, object]]] = {"training": [], "validation": [], "test": []}
    for split, count in patients.items():
        for number in range(count):
            views = [("LEFT", "CC"), ("LEFT", "MLO")] + ([("RIGHT", "CC")] if number % 3 == 0 else [])
            for side, view in views:
                malignant = bool(number % 2) and side == "LEFT"
                name = f"images/{split}{number}_{side}_{view}.png"
                write_png16(folder / name, make_view(malignant, rng))
                lesions = [{"lesion": "1", "pathology": "MALIGNANT" if malignant else "BENIGN"}]
                about = {"laterality": side, "view": view, "lesions": lesions, "crop": "whole"}
                splits[split].append({"image": name, "mask": None, "patient": f"{split}{number}", **about})
    head = {"name": "squares", "prepared": {"crops": crops, "crop_size": max(SHAPE), "intensity": "stored"}}
    write_datalist(folder, {**head, "label_names": {"pathology": ["BENIGN", "MALIGNANT"]}, **splits})
    return folder


def make_backbone(path: Path) -> Path:
    """An encoder of 16 x 16 pixels with random weights, which saw 32 x 32 pixels."""
    encoder = ViTEncoder(
        in_channels=1, img_size=[16, 16], patch_size=[4, 4], hidden_size=24, mlp_dim=48, num_layers=1, num_heads=2
    )
    save_weights_file(
        path, backbone_from_encoder(encoder, PREPROCESSING, {"field_of_view": [32, 32], "scales": [1, 2]})
    )
    return path
