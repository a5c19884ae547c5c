"""A prepared folder, a trained classifier and a segmentation, all tiny: malignant is what has a bright square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from miram.data.datalist import write_datalist
from miram.networks.classifier import ViTClassifier
from miram.networks.segmenter import ViTSegmenter
from miram.prepare.prepared import write_png16
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content

SIZE = 32
PREPROCESSING = {
    "a_min": 0,
    "a_max": 65535,
    "b_min": -2.0,
    "b_max": 2.0,
    "field_of_view": [SIZE, SIZE],
    "image_size": [16, 16],
}
ENCODER = {
    "in_channels": 1,
    "img_size": [16, 16],
    "patch_size": [4, 4],
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_layers": 2,
    "num_heads": 2,
}


def make_crop(malignant: bool, place: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise, and in a malignant crop a bright square of 8 pixels: patch `place` of the 4 x 4 grid."""
    crop = rng.integers(10_000, 30_000, size=(SIZE, SIZE)).astype(np.uint16)
    if malignant:
        row, column = (8 * index for index in place)
        crop[row : row + 8, column : column + 8] = 60_000
    return crop


def make_folder(folder: Path, patients: dict[str, int], seed: int = 0) -> Path:
    """
    A prepared folder with the tasks `pathology` (binary), `density` (multi-class) and `mass_margins` (multi-label).

    Each patient has a lesion in two views; every second patient's is malignant, and the pathology of the last image of
    a split is unknown. Every fifth patient looks like the other class. Densities follow the number of the patient,
    margins its pathology.
    """
    rng = np.random.default_rng(seed)
    splits: dict[str, list[dict[str, object]]] = {"training": [], "validation": [], "test": []}
    for split, count in patients.items():
        for number in range(count):
            for view in ("CC", "MLO"):
                name = f"images/{split}_{number:03d}_{view}.png"
                malignant = bool(number % 2)
                write_png16(
                    folder / name, make_crop(malignant != (number % 5 == 0), tuple(rng.integers(4, size=2)), rng)
                )
                item = {"image": name, "mask": None, "patient": f"{split}{number}", "lesion": f"{split}{number}_1"}
                item |= {"pathology": "MALIGNANT" if malignant else "BENIGN", "density": number % 4 + 1}
                item |= {"abnormality": "mass", "mass_margins": ["SPICULATED"] if malignant else ["CIRCUMSCRIBED"]}
                splits[split].append(item)
        splits[split][-1:] = [item | {"pathology": None} for item in splits[split][-1:]]
    head = {"name": "squares", "modality": "MG", "source": "generated for a test", "licence": "CC0-1.0"}
    names = {
        "pathology": ["BENIGN", "MALIGNANT"],
        "density": ["1", "2", "3", "4"],
        "mass_margins": ["CIRCUMSCRIBED", "OBSCURED", "SPICULATED"],
    }
    write_datalist(folder, {**head, "label_names": names, **splits})
    return folder


def make_classifier(num_classes: int = 1, pool: str = "token", steps: int = 0) -> ViTClassifier:
    """A classifier with random weights; with `steps` it has learnt what a bright square is (its logits all say so)."""
    torch.manual_seed(0)
    network = ViTClassifier(ENCODER, num_classes, pool, head_std=0.1)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        labels = np.arange(16) % 2 == 1
        crops = [make_crop(bool(label), tuple(rng.integers(4, size=2)), rng) for label in labels]
        logits = network(as_input(crops))
        target = torch.from_numpy(labels).float()[:, None].expand_as(logits)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def make_segmenter(steps: int = 0) -> ViTSegmenter:
    """A segmentation with random weights; with `steps` it has learnt to outline bright squares, also beside air."""
    torch.manual_seed(0)
    network = ViTSegmenter(ENCODER, feature_size=8)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        crops = [np.roll(make_crop(n % 2 == 1, (1, 2), rng), rng.integers(SIZE, size=2), (0, 1)) for n in range(8)]
        for crop in crops[::3]:
            crop[:, rng.integers(SIZE) :] = 0
        squares = torch.from_numpy(np.stack(crops) == 60_000).float()[:, None]
        mask = (torch.nn.functional.avg_pool2d(squares, 2) >= 0.5).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(as_input(crops)), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def as_input(crops: list[np.ndarray]) -> torch.Tensor:
    """What the configs make of crops: (B, 1, 16, 16)."""
    values = torch.from_numpy(np.stack(crops).astype(np.float32))[:, None] / 65535 * 4 - 2
    return torch.nn.functional.avg_pool2d(values, 2)


def save_model(
    path: Path, network: ViTClassifier | ViTSegmenter, name: str, task_type: str, classes: list[str]
) -> Path:
    """A `model.pt`."""
    task = {"name": name, "type": task_type, "classes": classes}
    save_weights_file(path, classifier_content(network, task, PREPROCESSING, {"seed": 0}))
    return path
