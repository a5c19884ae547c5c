"""Small runs of the workflows that are killed and started again, and what must then be equal."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from miram.data.datalist import write_datalist
from miram.networks.vit_encoder import ViTEncoder
from miram.prepare.prepared import write_png16
from miram.weights.backbone import backbone_from_encoder, save_weights_file

from .child import PHASES

CHILD = Path(__file__).with_name("child.py")
SIZES = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
COMMON: dict[str, Any] = {
    "device": "cpu",
    "batch_size": 4,
    "accumulation_steps": 2,
    "warmup_epochs": 1,
    "num_workers": 0,
    "checkpoint_minutes": 0,  # after every optimizer step
    "progress": False,
}
DECODERS = [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]
OPTIONS: dict[str, dict[str, Any]] = {
    "pretrain": {**SIZES, "image_size": [32, 32], "decoders": DECODERS, "val_interval": 1, "num_pictures": 0},
    # with everything that has a state of its own
    "finetune": {"ema_decay": 0.9, "mixup_alpha": 0.5, "drop_path_rate": 0.3, "early_stopping_patience": 50},
}
# what may differ: the clock
TIMES = ["seconds", "images_per_second"]


def make_data(folder: Path) -> Path:
    """26 training crops of 13 patients and 10 of 5 for validation, labelled; and a backbone to fine-tune."""
    random = np.random.default_rng(0)
    items: list[dict[str, Any]] = []
    for n in range(36):
        label = "MALIGNANT" if n // 2 % 2 else "BENIGN"
        items.append({"image": f"images/{n}.png", "patient": f"p{n // 2}", "lesion": f"l{n // 2}", "pathology": label})
        write_png16(folder / items[-1]["image"], random.integers(0, 65535, (72, 72)).astype(np.uint16))
    names = {"pathology": ["BENIGN", "MALIGNANT"]}
    splits = {"training": items[:26], "validation": items[26:], "test": []}
    write_datalist(folder, {"name": "small", "label_names": names, **splits})
    torch.manual_seed(0)
    preprocessing = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    encoder = ViTEncoder(1, 32, 8, **SIZES)
    save_weights_file(folder / "backbone.pt", backbone_from_encoder(encoder, preprocessing, {"scales": [1, 2]}))
    return folder


@dataclass
class Faults:
    """How often a run was stopped, by what, and in which phase."""

    counts: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Runs:
    """
    Runs of a workflow in processes that are forked from one that has imported everything, which saves seconds each.

    Args:
        workflow: "pretrain" or "finetune".
        repository: where the configs are.
        data: what :func:`make_data` made.
        options: overrides.
    """

    def __init__(self, workflow: str, repository: Path, data: Path, **options: Any) -> None:
        self.workflow, self.repository = workflow, repository
        own = {"pretrained": str(data / "backbone.pt")} if workflow == "finetune" else {"patch_size": [8, 8]}
        self.options = {**COMMON, **OPTIONS[workflow], **own, "dataset_dir": str(data), **options}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["monai.bundle", "miram.handlers", "tensorboard", "matplotlib.pyplot"])
        self.faults = Faults()

    def start(self, output_dir: Path) -> tuple[Any, Any]:
        """A process of the run, and its phase."""
        phase = self.context.Value("i", 0)
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        values = {
            "FILES": [str(self.repository / f"configs/{self.workflow}.yaml")],
            "OVERRIDES": {**self.options, "output_dir": str(output_dir)},
            "LOG": str(output_dir.parent / f"{output_dir.name}.log"),
            "PHASE": phase,
        }
        arguments = {"init_globals": values, "run_name": "__main__"}
        os.environ["OMP_NUM_THREADS"] = "1"
        process = self.context.Process(target=runpy.run_path, args=(str(CHILD),), kwargs=arguments, daemon=False)
        process.start()
        return process, phase

    def finish(self, output_dir: Path, timeout: float = 300) -> None:
        """Run to the end."""
        process, _ = self.start(output_dir)
        process.join(timeout)
        assert process.exitcode == 0, (output_dir.parent / f"{output_dir.name}.log").read_text()[-3000:]

    def stop(self, output_dir: Path, when: Callable[[str], bool], signal: str = "kill", delay: float = 0.0) -> bool:
        """
        Run until `when` says of its phase that it is time, and then a moment longer; kill it or, by SIGTERM, stop it.

        Returns:
            whether it was stopped; otherwise it had come to its end.
        """
        process, phase = self.start(output_dir)
        end = time.monotonic() + 300
        while process.is_alive() and not when(PHASES[phase.value]) and time.monotonic() < end:
            time.sleep(0.0005)
        time.sleep(delay)
        name = PHASES[phase.value]
        getattr(process, signal)()
        process.join(120)
        early = -15 if name == "starting" else 143  # a signal is caught from the first step on
        assert process.exitcode in (0, -9, 143, early), process.exitcode
        if process.exitcode != 0:
            self.faults.counts[f"{'SIGKILL' if signal == 'kill' else 'SIGTERM'} while {name}"] += 1
        return process.exitcode != 0


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, by their place in it."""
    found: dict[str, torch.Tensor] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                collect(f"{name}.{key}", inner)
        elif isinstance(value, list | tuple):
            for number, inner in enumerate(value):
                collect(f"{name}.{number}", inner)

    collect("", torch.load(path, weights_only=True))
    return found


def assert_equal(whole: Path, cut: Path) -> None:
    """The same bits in all files of weights, the same history, and nothing left lying about."""
    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in cut.iterdir()} == names
    for name in sorted(name for name in names if name.endswith(".pt") and "previous" not in name):
        one, other = weights_of(whole / name), weights_of(cut / name)
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == [], name
    one, other = (pd.read_csv(folder / "history.csv").drop(columns=TIMES) for folder in (whole, cut))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
