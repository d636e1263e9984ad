"""What is installed, on paper: pip's constraints, the rules' conda environment and the imports agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))

CONDA_NAMES = {"huggingface-hub": "huggingface_hub", "opencv-python-headless": "opencv", "torch": "pytorch"}
"""Names of conda-forge by those of PyPI, where they differ."""

ONLY_SNAKEMAKE = {"snakemake", "pygments"}
"""What the process needs that runs Snakemake, not its jobs."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def runtime() -> set[str]:
    """Return the dependencies of the package without extras."""
    return names(PROJECT["dependencies"])


def constraints() -> dict[str, str]:
    """Return the pinned version of every constraint by its canonical name."""
    lines = (ROOT / "envs/constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert [spec.operator for spec in pin.specifier] == ["=="], f"{pin}: one exact version is expected"
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}


def environment(path: Path) -> dict[str, str]:
    """Return the versions of a conda environment's packages by name, those that pip installs in it included."""
    *entries, by_pip = yaml.safe_load(path.read_text())["dependencies"]
    entries.remove("pip")
    found = {}
    for entry in [*entries, *(entry.replace("==", "=") for entry in by_pip["pip"])]:
        name, _, version = entry.partition("=")
        assert re.fullmatch(r"[0-9]+([.][0-9]+)*", version), f"{path.name}: {entry} names no version"
        found[name] = version
    return found


def environments() -> list[Path]:
    return sorted((ROOT / "envs").glob("*.yaml"))


def test_constraints_pin_every_dependency_with_its_extras_and_nothing_else():
    extras = [requirement for group in PROJECT["optional-dependencies"].values() for requirement in group]
    assert set(constraints()) == runtime() | names(extras)


def test_constraints_meet_the_projects_own_bounds():
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)]), text


@pytest.mark.parametrize("path", environments(), ids=lambda path: path.name)
def test_an_environment_has_every_dependency_in_the_tested_version(path):
    found, pins = environment(path), constraints()
    python = found.pop("python")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    expected = {CONDA_NAMES.get(name, name): pins[name] for name in runtime() - ONLY_SNAKEMAKE}
    assert set(found) == set(expected)
    # conda reads name=1.2 as 1.2 and everything that begins with 1.2 and a dot.
    differing = {name: (version, expected[name]) for name, version in found.items()
                 if not f"{expected[name]}.".startswith(f"{version}.")}  # fmt: skip
    assert not differing, "environment and constraints"


@pytest.mark.parametrize("path", environments(), ids=lambda path: path.name)
def test_an_environment_takes_everything_from_conda_forge(path):
    assert yaml.safe_load(path.read_text())["channels"] == ["conda-forge", "nodefaults"]


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"segswap"}


def test_everything_that_rules_import_is_a_dependency():
    files = [*(ROOT / "segswap").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    modules = set().union(*(imported(path) for path in files))
    assert {"numpy", "torch", "threadpoolctl"} <= modules
    distributions = metadata.packages_distributions()
    for module in sorted(modules):
        packages = {canonicalize_name(name) for name in distributions.get(module, [])}
        assert packages & runtime(), f"{module} of {packages or 'no installed package'} is no dependency"


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_rule_that_runs_a_program_names_an_environment_that_exists(path):
    common = (ROOT / "workflow/rules/common.smk").read_text()
    shared = re.search(r'^ENVIRONMENT = "(.+)"$', common, re.MULTILINE).group(1)
    blocks = re.split(r"^ *(?:rule|checkpoint) (\w+):\n", path.read_text(), flags=re.MULTILINE)
    for name, body in zip(blocks[1::2], blocks[2::2], strict=True):
        if not re.search(r"^ +shell:$", body, re.MULTILINE):
            continue
        named = re.search(r"^ +conda:\n +(.+)$", body, re.MULTILINE)
        assert named, f"rule {name} has no environment"
        file = shared if named.group(1) == "ENVIRONMENT" else named.group(1).strip('"')
        assert (path.parent / file).resolve() in environments(), f"rule {name}: {file}"


def test_the_catalogs_entry_says_what_it_reads():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"} and usage["report"] is True
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": False, "apptainer+conda": False}
    # The catalog takes the manual of the configuration from here.
    assert (ROOT / "config/README.md").is_file()
