"""The notebook as it is committed; it is run on the demo model with ``pytest --nbmake`` (.ci/run)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_was_run_from_top_to_bottom_without_an_error(code_cells):
    assert [cell["execution_count"] for cell in code_cells] == list(range(1, len(code_cells) + 1))
    kinds = {output["output_type"] for cell in code_cells for output in cell["outputs"]}
    assert {"display_data", "stream"} <= kinds and "error" not in kinds


def test_it_is_small_and_names_no_machine(code_cells):
    assert NOTEBOOK.stat().st_size < 600_000
    for cell in code_cells:
        for output in cell["outputs"]:
            said = "".join(output.get("text", output.get("data", {}).get("text/plain", [])))
            assert not re.search(r"(^|[\s'\"(])(/\w|[A-Z]:\\)", said), said


def test_without_the_demo_model_it_says_how_to_make_it(code_cells, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"stage2\.pt is missing: make the demo world first \(snakemake --cores 8"
    ):
        exec("".join(code_cells[0]["source"]), {})
