#!/usr/bin/env bash
# Make a virtual environment in which MONAI Label's server starts and timm imports: scripts/make_interop_environment.sh DIR
#
# It is one of its own because both want torchvision and MONAI Label wants pydicom 2, with which the development
# environment would break. Needs Python 3.11. Run again, it brings an existing environment up to date.
set -euo pipefail
if [ $# != 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints-interop.txt
"${PYTHON:-python3.11}" -m venv "$1"
environment=$(cd "$1" && pwd)
cd "$environment"   # no folder of ours shall be found as a package

# torch with what its build requires, which differs between CPU and CUDA; the rest is listed in full
bin/pip install --quiet --no-compile -c "$constraints" torch
bin/pip install --quiet --no-compile --no-deps -r "$constraints"

# PyPI's torchvision is built for CUDA. Beside a CPU build of torch its operators are missing, and its import fails where
# it describes them. Declared, they let it be imported; nothing here calls them.
if ! bin/python -c 'import torchvision' 2>/dev/null; then
    packages=$(bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo 'import declare_torchvision_operators' >"$packages/declare_torchvision_operators.pth"
    cat >"$packages/declare_torchvision_operators.py" <<'PYTHON'
"""Declare torchvision's operators when it is first imported, so that Python does not load torch at each start."""

import sys
from importlib.abc import MetaPathFinder


class _DeclareFirst(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", schema)
        return None


sys.meta_path.insert(0, _DeclareFirst())
PYTHON
fi
bin/python -c 'import timm, torchvision.utils, monailabel.main'
echo "$environment: MONAI Label $(bin/python -c 'import monailabel; print(monailabel.__version__)'), its apps are in" \
    "monailabel/sample-apps"
