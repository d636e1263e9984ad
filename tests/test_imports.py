"""Imports run one way: each part uses parts below it only, and none knows the workflow program."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import segswap

ROOT = Path(segswap.__file__).parent

# From the bottom up. A part may import itself and parts of lower layers; parts of one layer do not know each other.
LAYERS = (
    ("errors", "names", "versions", "starter", "threads"),
    ("listing",),
    ("randomness", "files", "images", "geometry", "sampling", "program", "progress", "device"),
    (
        *("allocation", "config", "named_inputs", "lists", "folder_lists", "sharing", "drawing"),
        *("download", "unpack", "weights", "workers"),
    ),
    ("pairs", "models"),
    ("matching", "demo_world"),
    ("training", "discovery", "search"),
    ("benchmarks",),
    ("report",),
    ("server",),
    ("commands",),
    ("cli",),
)
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}
FOREIGN = ("snakemake", "torchvision")


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path: Path) -> str:
    """Return the part a module belongs to: its package directly under ``segswap``, or its own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Return the full names of everything a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def used_parts(path: Path) -> set[str]:
    """Return the parts of the project that a module imports; what the package itself defines is nobody's."""
    own = {name.split(".")[1] for name in imported_names(path) if name.startswith("segswap.")}
    return {name for name in own if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()}


def test_every_part_has_a_layer():
    assert {part_of(path) for path in modules()} <= set(LAYER_OF)
    assert all(not set(a) & set(b) for a, b in itertools.combinations(LAYERS, 2))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_parts_below_its_own(path):
    own = part_of(path)
    above = {part for part in used_parts(path) if part != own and LAYER_OF[part] >= LAYER_OF[own]}
    assert not above, f"{own} (layer {LAYER_OF[own]}) may not import {sorted(above)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_knows_the_workflow_program(path):
    assert not {name for name in imported_names(path) if name.split(".")[0] in FOREIGN}


def test_modules_of_one_package_do_not_import_each_other_in_a_circle():
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {
            name.removeprefix("segswap.") for name in imported_names(path)
        }
        for path in modules()
    }
    edges = {
        name: {other for other in graph if any(f"{used}.".startswith(f"{other}.") for used in uses)}
        for name, uses in graph.items()
    }
    while edges:
        free = {name for name, uses in edges.items() if not uses & edges.keys()}
        assert free, f"imports in a circle among {sorted(edges)}"
        edges = {name: uses for name, uses in edges.items() if name not in free}


@pytest.mark.parametrize(
    "program",
    ["check_places", "correspondence_graph", "segment_internet", "metrics_pairs", "picture_places", "pair_shard"],
)
def test_programs_that_use_no_model_do_not_load_pytorch(program):
    path = ROOT.parent / "workflow" / "scripts" / f"{program}.py"
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_programs_with_a_model_do_not_load_the_compiler_of_pytorch():
    """A third of what most jobs of a small world take would go into it."""
    path = ROOT.parent / "workflow" / "scripts" / "train_stage.py"
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_that_search_no_folder_do_not_load_the_search():
    code = (
        "import sys, segswap.commands.match; sys.exit(any(name.startswith('segswap.search') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
