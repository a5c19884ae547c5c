"""Imports run downwards only: each room imports from rooms below it, and no data set is known to a generic room."""

from __future__ import annotations

import ast
from pathlib import Path

BUNDLE = Path(__file__).parents[1] / "bundle"

# From the top floor down. Rooms of one floor do not import from each other, unless SIBLINGS says so.
FLOORS = (
    {"studies"},
    {"miram.packaging"},
    {"miram.handlers"},
    {"miram.provenance", "miram.inference", "miram.loading", "miram.generated"},
    {"miram.prepare", "miram.engines", "miram.visualize"},
    {"miram.data", "miram.weights", "miram.losses.reconstruction"},
    {"miram.networks", "miram.readers"},
    {"miram.metrics", "miram.transforms", "miram.masking", "miram.optimizers"},
    {"miram.jobs", "miram.counter_random", "miram.files", "miram.flags", "miram.cli", "miram.progress"},
    {"miram.errors", "miram"},
)
SIBLINGS = {("miram.jobs", "miram.progress")}


def _modules() -> dict[str, Path]:
    files = (file.relative_to(BUNDLE) for file in BUNDLE.rglob("*.py"))
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__"): BUNDLE / file for file in files}


def _imports(file: Path, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules.keys()


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "studies" else ".".join(parts[:2])


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_imports_run_downwards() -> None:
    modules = _modules()
    upwards = {
        f"{module} imports {imported}"
        for module, file in modules.items()
        for imported in _imports(file, modules)
        if (one := _room(module)) != (other := _room(imported))
        and (one, other) not in SIBLINGS
        and _floor(one) >= _floor(other)
    }
    assert not upwards


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = _modules()
    below = {module: _imports(file, modules) - {module} for module, file in modules.items()}
    left = dict(below)
    while ready := {module for module, imported in left.items() if not imported & left.keys()}:
        left = {module: imported for module, imported in left.items() if module not in ready}
    assert not left, f"these import each other: {sorted(left)}"


def test_a_generic_room_knows_no_data_set() -> None:
    modules = _modules()
    allowed = ("miram.prepare.cbis_ddsm", "miram.generated")
    knowing = {
        module
        for module, file in modules.items()
        if not module.startswith(allowed) and any(".cbis_ddsm" in name for name in _imports(file, modules))
    }
    assert not knowing
