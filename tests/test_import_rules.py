"""Imports run downwards only: each room imports from rooms below it, and no data set is known to a generic room."""

from __future__ import annotations

import ast
from pathlib import Path

BUNDLE = Path(__file__).parents[1] / "bundle"

# From the top floor down; rooms of one floor do not import from each other.
FLOORS = (
    "studies",
    "packaging",
    "handlers",
    "provenance inference generated",
    "loading",
    "prepare engines visualize",
    "data weights losses",
    "networks readers",
    "metrics transforms masking optimizers",
    "jobs",
    "cli progress",
    "counter_random files flags",
    "errors miram",
    "threads",
)


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
    package, *parts = module.split(".")
    return parts[0] if package == "miram" and parts else package


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms.split())


def test_imports_run_downwards() -> None:
    modules = _modules()
    upwards = {
        f"{module} imports {imported}"
        for module, file in modules.items()
        for imported in _imports(file, modules)
        if (one := _room(module)) != (other := _room(imported)) and _floor(one) >= _floor(other)
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
