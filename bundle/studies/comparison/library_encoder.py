"""An encoder of timm or Hugging Face to compare with: any that gives features, from a file or the library's cache."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from miram.errors import InputError
from miram.inference.classifying import TrainedClassifier, load_trained
from miram.weights.pretrained import is_none
from studies.comparison.pooled_classifier import PooledClassifier, pool_of, prepare_for

logger = logging.getLogger(__name__)

LIBRARIES = {"timm": "timm", "hf": "transformers"}  # what to install
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_USUAL_SIZE = 224


class LibraryClassifier(PooledClassifier):
    """
    An encoder of timm or Hugging Face with a linear head. Gray images become three equal colors, are normalised as the
    encoder's images were, and are resized to its size.

    Args:
        library: "timm" or "hf".
        definition: what the library builds the encoder from: "name" of timm's, or a config of transformers.
        input_size: side of the encoder's images in pixels.
        mean: of each color's pixels from 0 to 1.
        std: their standard deviation.
        pixel_range: the values of black and white in the images given.
        pool: "summary", timm's own pooling, or the class token of Hugging Face's, or the mean of tokens where there is
            none; or "attention".
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        library: str,
        definition: Mapping[str, Any],
        num_classes: int,
        input_size: int = _USUAL_SIZE,
        mean: Sequence[float] = _IMAGENET[0],
        std: Sequence[float] = _IMAGENET[1],
        pixel_range: Sequence[float] = (-2.0, 2.0),
        pool: str = "summary",
    ) -> None:
        network_def: dict[str, Any] = {
            "library": library,
            "definition": dict(definition),
            "num_classes": num_classes,
            "input_size": input_size,
            "mean": list(mean),
            "std": list(std),
            "pixel_range": list(pixel_range),
            "pool": pool,
        }
        body = _build(library, definition, input_size)
        super().__init__(network_def, _width(library, body), num_classes, pool)
        self.body = body
        self.library, self.input_size, self.pixel_range = library, input_size, tuple(pixel_range)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Images (B, 1, H, W) as the encoder takes them: (B, 3, S, S)."""
        low, high = self.pixel_range
        unit = ((image - low) / (high - low)).expand(-1, 3, -1, -1)
        size = (self.input_size, self.input_size)
        return F.interpolate((unit - self.mean) / self.std, size=size, mode="bilinear", antialias=True)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """The encoder's tokens or the places of its feature map: (B, N, D)."""
        found = self._last_layer(image)
        if self.library == "timm" and getattr(self.body, "output_fmt", None) == "NHWC":
            return found.flatten(1, 2)
        return found.flatten(2).transpose(1, 2) if found.ndim == 4 else found

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """The features (B, D) of images (B, 1, H, W)."""
        if self.library == "timm" and self.pooling is None:
            body: Any = self.body
            return body.forward_head(self._last_layer(image), pre_logits=True)
        return super().features(image)

    def summarize(self, tokens: torch.Tensor) -> torch.Tensor:
        """The class token, or the mean of the tokens of an encoder that has none."""
        patch = getattr(getattr(self.body, "config", None), "patch_size", None)
        patches = (self.input_size // patch) ** 2 if isinstance(patch, int) else tokens.shape[1]
        return tokens[:, 0] if tokens.shape[1] > patches else tokens.mean(dim=1)

    def _last_layer(self, image: torch.Tensor) -> torch.Tensor:
        body: Any = self.body
        pixels = self.prepare(image)
        if self.library == "timm":
            return body.forward_features(pixels)
        accepts = inspect.signature(body.forward).parameters
        options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepts else {}
        return body(pixel_values=pixels, **options).last_hidden_state


def make_library_encoder(
    library: str,
    encoder_name: str,
    num_classes: int,
    weights: str | None = None,
    input_size: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    mode: str = "finetune",
) -> PooledClassifier:
    """
    Build a classifier on a pretrained encoder.

    Args:
        library: "timm" or "hf".
        encoder_name: timm's name of a model; or a folder that `save_pretrained` wrote, or a name of the hub that is in
            transformers' cache.
        weights: a file with the weights of timm's model; None takes those of timm's cache (or downloads them).
        input_size: side of the encoder's images in pixels; by default as it was trained.
        preprocessing: of configs/finetune.yaml: "b_min" and "b_max" are black and white.
        mode: of configs/finetune.yaml.

    Raises:
        InputError: if the library is not installed, or does not find the encoder or its weights.
    """
    if library not in LIBRARIES:
        raise InputError(f"library is {library!r}; give one of {', '.join(LIBRARIES)}")
    load = _load_timm if library == "timm" else _load_hugging_face
    source = None if weights is None or is_none(weights) else weights
    pixel_range = (-2.0, 2.0) if preprocessing is None else (preprocessing["b_min"], preprocessing["b_max"])
    try:
        definition, facts, state = load(encoder_name, source, input_size)
        network = LibraryClassifier(
            library, definition, num_classes, **facts, pixel_range=pixel_range, pool=pool_of(mode)
        )
        network.body.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:  # the libraries and the hub's client have many kinds of errors
        raise InputError(
            f"{library} does not give the encoder {source or encoder_name} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); {_REMEDIES[library]}"
        ) from error
    logger.info("%s: %s, images of %s pixels", LIBRARIES[library], source or encoder_name, facts["input_size"])
    return prepare_for(network, mode)


_REMEDIES = {
    "timm": "give a name of timm.list_models(), and the file of its weights as timm:NAME=FILE",
    "hf": "give a folder with config.json and weights, or fetch it into the cache first: hf download NAME",
}


def load_trained_library_encoder(path: str | os.PathLike[str], task: str | None = None) -> TrainedClassifier:
    """Load the `model.pt` of a :class:`LibraryClassifier`; arguments and errors are those of `load_trained`."""
    return load_trained(path, task, LibraryClassifier)


def _library(name: str) -> Any:
    try:
        return __import__(LIBRARIES[name])
    except ImportError as error:
        package = LIBRARIES[name]
        raise InputError(f"encoders of {name} need the package {package}: pip install {package}") from error


def _build(library: str, definition: Mapping[str, Any], input_size: int) -> nn.Module:
    """The encoder with random weights."""
    module = _library(library)
    if library == "hf":
        return module.AutoModel.from_config(module.AutoConfig.for_model(**definition))
    return _create(module, definition["name"], input_size)


def _create(timm: Any, name: str, input_size: int, **options: Any) -> Any:
    try:  # networks with positions are made for a size
        return timm.create_model(name, num_classes=0, img_size=input_size, **options)
    except TypeError:
        return timm.create_model(name, num_classes=0, **options)


def _width(library: str, body: Any) -> int:
    if library == "timm":
        return int(body.num_features)
    sizes = getattr(body.config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else body.config.hidden_size)


_UNUSUAL_SEED = 7_919_000_001  # weights in a file were not drawn with it

Loaded = tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]


def _load_timm(name: str, weights: str | None, input_size: int | None) -> Loaded:
    """What builds the encoder, what its images are like, and its weights."""
    timm = _library("timm")
    default = timm.get_pretrained_cfg(name)
    if default is None:
        raise InputError(f"timm has no model {name}; {_REMEDIES['timm']}")
    size = input_size or default.input_size[-1]
    given = {} if weights is None else {"pretrained_cfg_overlay": {"file": weights}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNUSUAL_SEED)
        random = dict(_create(timm, name, size).named_parameters())
        torch.manual_seed(_UNUSUAL_SEED)
        body = _create(timm, name, size, pretrained=True, **given)
    # timm only warns of weights that a file lacks; they keep the random values of this seed
    lacking = [key for key, value in body.named_parameters() if value.ndim > 1 and torch.equal(value, random[key])]
    if lacking:
        raise InputError(f"{weights or name} lacks {len(lacking)} weights of timm's {name}, such as {lacking[0]}")
    facts = {"input_size": size, "mean": default.mean, "std": default.std}
    return {"name": name}, facts, body.state_dict()


def _load_hugging_face(name: str, weights: str | None, input_size: int | None) -> Loaded:
    """What builds the encoder, what its images are like, and its weights."""
    transformers = _library("hf")
    if weights is not None:
        raise InputError(f"hf:{name} takes a folder with config.json and weights in place of a name, not {weights}")
    body = transformers.AutoModel.from_pretrained(name, local_files_only=True)
    config = body.config
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0  # of a masked autoencoder: all patches are seen
    size = input_size or getattr(config, "image_size", None) or _USUAL_SIZE
    mean, std = _normalisation(transformers, name)
    facts = {"input_size": size if isinstance(size, int) else size[-1], "mean": mean, "std": std}
    return json.loads(config.to_json_string(use_diff=False)), facts, body.state_dict()


def _normalisation(transformers: Any, name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels in training, or those of ImageNet where the encoder's files do not tell."""
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name, local_files_only=True)
    except OSError:
        return _IMAGENET
    return found.get("image_mean", _IMAGENET[0]), found.get("image_std", _IMAGENET[1])
