"""What the project says of itself to people and tools: the map of the code, the citation, the changelog, the hooks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import segswap

ROOT = Path(segswap.__file__).parents[1]
DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))

# Citation File Format 1.2: the keys of a work, and those that a reference needs.
_WORK = {"authors", "cff-version", "message", "title"}
_KNOWN = _WORK | {"abstract", "keywords", "license", "preferred-citation", "type", "url", "version"}
_REFERENCE = {"authors", "title", "type"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def mapped() -> set[str]:
    """Return what the map names, as paths: modules of the tables, below the folder that the heading names."""
    found = set()
    for section in read("CONTRIBUTING.md").partition("## Map of the code")[2].split("\n### ")[1:]:
        folder = re.findall(r"`([a-z_/]+)/`", section.partition("\n")[0])
        ending = ".smk" if folder == ["workflow/rules"] else ".py"
        found |= {f"{folder[0]}/{name}{ending}" for name in re.findall(r"(?m)^\| `(\w+)` \| \S", section) if folder}
        found |= set(re.findall(r"`(segswap/\w+\.py)`", section))
    return found


def test_the_map_names_every_module_and_no_other():
    modules = [path for path in (ROOT / "segswap").rglob("*.py") if path.name != "__init__.py"]
    there = {str(path.relative_to(ROOT)) for path in [*modules, *(ROOT / "workflow/rules").glob("*.smk")]}
    assert mapped() == there


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{name}" for name in DOCS)])
def test_links_lead_to_files_and_headings(name):
    for target, _, heading in re.findall(r"\]\((?!http)([^)#\s]*)(#([^)\s]+))?\)", read(name)):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if heading:
            titles = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
            assert heading.lstrip("#") in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_citation_is_of_its_format_and_of_this_version():
    content = yaml.safe_load(read("CITATION.cff"))
    assert set(content) >= _WORK and set(content) <= _KNOWN
    assert (content["cff-version"], content["type"], content["license"]) == ("1.2.0", "software", "MIT")
    assert content["version"] == segswap.__version__
    paper = content["preferred-citation"]
    assert set(paper) >= _REFERENCE
    assert [author["family-names"] for author in paper["authors"]] == ["Shen", "Efros", "Joulin", "Aubry"]
    assert {"type": "other", "value": "arXiv:2110.15904"} in paper["identifiers"]


def test_the_changelog_has_this_version_or_says_that_it_comes():
    versions = re.findall(r"(?m)^## \[([^\]]+)\]", read("CHANGELOG.md"))
    assert versions[0] == "Unreleased" and len(set(versions)) == len(versions)
    assert segswap.__version__ in read("CHANGELOG.md")


def test_the_hooks_are_checks_of_the_ci_with_tools_of_tested_versions():
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert entries == ["ruff check", "ruff format --check", "snakefmt --check"]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert re.search(rf"(?m)^{re.escape(hook['entry'])} ", read(".ci/run")), "CI does not run it"
        tool = hook["entry"].partition(" ")[0]
        assert re.search(rf"(?m)^{tool}==\S+$", read("envs/constraints.txt")), "no tested version"
