"""Make a bundle: a folder and a zip that MONAI's tools can use directly."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import miram
from miram.errors import InputError
from miram.inference.calibrated import Calibration, load_calibration
from miram.inference.classifying import TrainedClassifier
from miram.packaging.archive import check_replaceable, files_of, replace_folder, write_zip
from miram.packaging.configs import make_config, make_metadata, to_json
from miram.packaging.exports import check_formats, export
from miram.packaging.kinds import KINDS, Kind
from miram.packaging.weights import classifier_facts, network_definition, packaged_state, saved_bytes


def package_bundle(
    repository: str | os.PathLike[str],
    kind: str,
    checkpoint: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    calibration: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
) -> Path:
    """
    Write a bundle's folder and zip. The same inputs give the same bytes, except for exported networks.

    Args:
        repository: the folder with `configs/`, `docs/` and `LICENSE`.
        kind: a key of `KINDS`.
        checkpoint: the `model.pt` of a fine-tuning run.
        output_dir: where the folder and the zip go. A bundle that was packaged there before is replaced.
        calibration: the `calibration.json` of an evaluation of this checkpoint.
        formats: formats to which the network is also exported, see :data:`miram.packaging.exports.FORMATS`.

    Returns:
        the folder; the zip is next to it.

    Raises:
        InputError: if the checkpoint is missing, of another kind or not for 2D images, the calibration belongs to
            another model, a format cannot be written, or the folder contains other files.
    """
    repository, output_dir = Path(repository), Path(output_dir)
    bundle = KINDS[kind]
    check_formats(formats)
    folder, archive = output_dir / bundle.folder, output_dir / f"{bundle.folder}.zip"
    check_replaceable(folder, archive)
    trained, fitted = _read(bundle, checkpoint, calibration)
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=f".{bundle.folder}.") as temporary:
        new = Path(temporary) / bundle.folder
        _write(new, repository, bundle, trained, fitted)
        for name in formats:
            export(new, name)
        write_zip(new, archive)
        replace_folder(new, folder)
    return folder


def _read(
    kind: Kind, checkpoint: str | os.PathLike[str], calibration: str | os.PathLike[str] | None
) -> tuple[TrainedClassifier, Calibration]:
    if not Path(checkpoint).is_file():
        raise InputError(f"there is no checkpoint {checkpoint}: give the model.pt of a fine-tuning run")
    trained = kind.load(checkpoint)
    if trained.network.encoder.spatial_dims != 2:
        raise InputError(f"{checkpoint} is for volumes; the bundles are for 2D images")
    if calibration is None:
        return trained, trained.calibration
    if not Path(calibration).is_file():
        raise InputError(
            f"there is no calibration {calibration}: run configs/evaluate.yaml, or leave --calibration out"
        )
    fitted = load_calibration(calibration, trained.sha256)
    if fitted is None:
        raise InputError(f"{calibration} was fitted for another model than {checkpoint}: evaluate this one")
    return trained, fitted


def _write(folder: Path, repository: Path, kind: Kind, trained: TrainedClassifier, fitted: Calibration) -> None:
    """Write all files of a bundle, except for exported networks."""
    weights = saved_bytes(packaged_state(trained.network))
    _put(folder / "models/model.pt", weights)
    values: dict[str, Any] = {
        "network_def": network_definition(trained.network),
        "facts": classifier_facts(trained, fitted, weights),
        "task": trained.task.name,
    }
    for name, sources in kind.configs.items():
        config = make_config(repository / "configs", sources, values, kind.without.get(name, ()))
        _put(folder / f"configs/{name}.json", to_json(config).encode())
    metadata = to_json(make_metadata(repository / "configs/metadata.json", kind.metadata, trained)).encode()
    _put(folder / "configs/metadata.json", metadata)
    _put(folder / "metadata.json", metadata)
    _put(folder / "configs/logging.conf", (repository / "configs/logging.conf").read_bytes())
    _put(folder / "LICENSE", (repository / "LICENSE").read_bytes())
    _put(folder / "docs/README.md", (repository / "docs" / kind.readme).read_bytes())
    _put(folder / "docs/data_license.txt", (repository / "docs/data_license.txt").read_bytes())
    package = Path(miram.__file__).parent
    for source in files_of(package):
        if source.suffix == ".py":
            _put(folder / "miram" / source.relative_to(package), source.read_bytes())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
