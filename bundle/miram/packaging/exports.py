"""Export the network to the formats of other runtimes, and compare each with the network itself."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export
from torch import nn

from miram.errors import InputError
from miram.packaging.weights import load_weights

Format = Literal["ts", "onnx", "pt2"]
FORMATS: tuple[str, ...] = get_args(Format)

_NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
_DYNAMIC = {"image": {0: "batch"}, "pred": {0: "batch"}}


def check_formats(formats: Sequence[str]) -> None:
    """
    Check that the formats are known and can be written here.

    Raises:
        InputError: with the unknown format, or the missing package.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"--formats: {name!r} is not one of {', '.join(FORMATS)}")
        missing = [package for package in _NEEDED.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            raise InputError(
                f"--formats {name} needs packages that are not installed: {', '.join(missing)}; "
                "pip install -c constraints.txt -e '.[export]'"
            )


def export(bundle: Path, name: str) -> Path:
    """
    Write a bundle's network in another format, with the functions behind MONAI's own commands, and compare the outputs.

    Args:
        name: "ts", "onnx" or "pt2".

    Returns:
        the file, `models/model.<name>`.

    Raises:
        RuntimeError: if a logit differs by more than 1e-4.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    network = load_weights(parser.get_parsed_content("network_def"), bundle / "models/model.pt").eval()
    size = image_size(parser, bundle)
    path = bundle / f"models/model.{name}"
    logging.disable(logging.INFO)  # the exporters' arguments, and a line for each node that they simplify
    try:
        _WRITERS[name](bundle, network, size, path)
    finally:
        logging.disable(logging.NOTSET)
    run = _READERS[name](path)
    for batch_size in (1, 3):  # it is dynamic in every format
        image = torch.randn(batch_size, *size, generator=torch.Generator().manual_seed(batch_size))
        with torch.no_grad():
            difference = (run(image) - network(image)).abs().max().item()
        if not difference <= 1e-4:
            raise RuntimeError(f"{path.name} differs from the network by {difference:.2g} at batch size {batch_size}")
    return path


def image_size(parser: ConfigParser, bundle: Path) -> list[int]:
    """(C, *spatial) of the network's input, from the bundle's metadata."""
    parser.read_meta(str(bundle / "configs/metadata.json"))
    image = parser["_meta_#network_data_format#inputs#image"]
    return [image["num_channels"], *image["spatial_shape"]]


def _of_bundle(bundle: Path) -> dict[str, Any]:
    """The arguments of MONAI's export commands that describe a bundle."""
    return {
        "net_id": "network_def",
        "ckpt_file": str(bundle / "models/model.pt"),
        "meta_file": str(bundle / "configs/metadata.json"),
        "config_file": str(bundle / "configs/inference.json"),
    }


def _write_torchscript(bundle: Path, network: nn.Module, size: list[int], path: Path) -> None:
    ckpt_export(**_of_bundle(bundle), filepath=str(path), use_trace=True, input_shape=[1, *size])


def _write_onnx(bundle: Path, network: nn.Module, size: list[int], path: Path) -> None:
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": _DYNAMIC}
    onnx_export(
        **_of_bundle(bundle),
        filepath=str(path),
        use_trace=True,
        input_shape=[2, *size],  # with a batch of 1, the exporter would fix the batch size
        converter_kwargs={**names, "verbose": False},
    )


def _write_export(bundle: Path, network: nn.Module, size: list[int], path: Path) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, *size),), dynamic_shapes=batch), path)


def _read_onnx(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        (pred,) = session.run(None, {"image": image.numpy()})
        return torch.from_numpy(np.asarray(pred))

    return run


_WRITERS = {"ts": _write_torchscript, "onnx": _write_onnx, "pt2": _write_export}
_READERS: dict[str, Callable[[Path], Callable[[torch.Tensor], torch.Tensor]]] = {
    "ts": lambda path: torch.jit.load(str(path)),
    "onnx": _read_onnx,
    "pt2": lambda path: torch.export.load(path).module(),
}
