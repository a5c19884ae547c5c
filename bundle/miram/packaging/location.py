"""The location of a packaged bundle."""

from __future__ import annotations

import inspect
from pathlib import Path

from monai.bundle import ConfigWorkflow


def bundle_root() -> str:
    """
    The folder of the bundle whose config is being evaluated, so that it runs from any working directory.

    MONAI does not give a config's expressions access to the path of their file, so we get it from the workflow that
    evaluates them. Tools that read a config without a workflow set the id `bundle_root` themselves.

    Returns:
        the folder above the config's; "." if there is no workflow.
    """
    objects = (frame.frame.f_locals.get("self") for frame in inspect.stack())
    workflow = next((found for found in objects if isinstance(found, ConfigWorkflow)), None)
    return "." if workflow is None else str(Path(workflow.config_root_path).resolve().parent)
