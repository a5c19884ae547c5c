#!/usr/bin/env bash
# Make a virtual environment in which MONAI Label's server starts and timm imports: scripts/make_interop_environment.sh DIR
#
# It is separate because both need torchvision and MONAI Label needs pydicom 2, which would break the development
# environment. Needs Python 3.11. If you run it again, it updates an existing environment.
set -euo pipefail
if [ $# != 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints-interop.txt
"${PYTHON:-python3.11}" -m venv "$1"
environment=$(cd "$1" && pwd)
cd "$environment"   # so that none of our folders is found as a package

# torch with its build's requirements, which differ between CPU and CUDA; all others are listed
bin/pip install --quiet --no-compile -c "$constraints" torch
bin/pip install --quiet --no-compile --no-deps -r "$constraints"

# PyPI's torchvision is built for CUDA. With a CPU build of torch its operators are missing, and its import fails where it
# describes them. Declaring them makes the import work; nothing here calls them.
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
