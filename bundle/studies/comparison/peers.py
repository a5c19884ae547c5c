"""Networks that people would use instead: how a comparison's command names them."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miram.errors import InputError
from miram.files import file_sha256

KINDS = ("cnn", "timm", "hf")
_FORM = re.compile(rf"({'|'.join(KINDS)}):([^=]+)(?:=(.+))?")


@dataclass(frozen=True)
class Peer:
    """A network that is not pretrained by the comparison."""

    kind: str  # "cnn" (MONAI's ResNet), "timm" or "hf" (Hugging Face)
    source: str  # the architecture, or the library's name of the model, or a folder
    # a file with the initial weights; None for random weights (cnn) or those that the library has
    weights: Path | None = None

    @property
    def name(self) -> str:
        """The method's name, which is also a folder's: cnn_resnet50, hf_dinov2-small."""
        last = Path(self.source).name if self.kind == "hf" else self.source
        given = "" if self.weights is None else f"_{self.weights.stem}"
        return re.sub(r"[^\w.-]+", "_", f"{self.kind}_{last}{given}")

    @property
    def has_features(self) -> bool:
        """Whether its features were learnt before."""
        return self.kind != "cnn" or self.weights is not None

    @property
    def overrides(self) -> dict[str, Any]:
        """The config values that make fine-tuning train it."""
        weights = {} if self.weights is None else {"weights": str(self.weights.resolve())}
        if self.kind == "cnn":
            rate = {"base_learning_rate": 8e-4} if weights else {}  # that of pretrained weights
            return {"architecture": self.source, **weights, **rate}
        folder = Path(self.source)
        return {
            "library": self.kind,
            "encoder_name": str(folder.resolve()) if folder.is_dir() else self.source,
            **weights,
        }

    @property
    def sha256(self) -> str | None:
        """Of the files with its weights, if it is given by files."""
        source = self.weights or Path(self.source)
        files = sorted(source.glob("*")) if source.is_dir() else [source]
        digests = [_sha256(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
        return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None


def parse_peer(text: str) -> Peer | None:
    """
    Read a method of the form KIND:NAME or KIND:NAME=FILE; None if it is of another form.

    Raises:
        InputError: if there is no such file.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    peer = Peer(match[1], match[2], None if match[3] is None else Path(match[3]))
    if peer.weights is not None and not peer.weights.is_file():
        raise InputError(f"{text}: there is no {peer.weights}; give the file of its weights")
    return peer


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    """Of a file that was last changed at that time."""
    return file_sha256(path)
