"""Provenance: versions, the state of the code, hashes and costs, as they are."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from html_pages import NASTY, outside, parse

from segswap import versions
from segswap.errors import InputError
from segswap.files import read_json, write_json, write_text
from segswap.report.provenance import (
    code_state,
    collect,
    package_versions,
    provenance_html,
    stage_versions,
    write_provenance,
)
from segswap.report.times import Cost, read_costs

HEADER = "s\th:m:s\tmax_rss\tmean_load\n"


def job(folder: Path, name: str, seconds: float, memory: str, load: str) -> None:
    write_text(folder / f"{name}.tsv", f"{HEADER}{seconds}\t0:00:01\t{memory}\t{load}\n")


class TestCosts:
    def test_jobs_of_a_rule_are_taken_together_over_all_folders(self, tmp_path):
        job(tmp_path / "run", "pair_shard-train-1obj-000000", 10.0, "167.82", "90.0")
        job(tmp_path / "shared", "pair_shard-train-1obj-000001", 30.0, "170.5", "50.0")
        job(tmp_path / "run", "train", 60, "900.0", "181.5")
        costs = read_costs([tmp_path / "run", tmp_path / "shared", tmp_path / "absent"])
        assert list(costs) == ["train", "pair_shard"], "the longest first"
        assert costs["train"] == Cost(1, 60.0, 60.0, 900.0, 181.5)
        # The load is a mean over time, not over jobs: (10 * 90 + 30 * 50) / 40.
        assert costs["pair_shard"] == Cost(2, 40.0, 30.0, 170.5, 60.0)

    @pytest.mark.parametrize("absent", ["NA", "-", ""])
    def test_a_job_too_short_to_be_looked_at_has_its_time_only(self, tmp_path, absent):
        job(tmp_path, "tables", 0.02, absent, absent)
        assert read_costs([tmp_path])["tables"] == Cost(1, 0.02, 0.02, None, None)
        job(tmp_path, "tables-2", 4.0, "50.0", "80.0")
        assert read_costs([tmp_path])["tables"] == Cost(2, 4.02, 4.0, 50.0, 80.0)

    def test_every_repetition_of_a_job_counts(self, tmp_path):
        write_text(tmp_path / "rule.tsv", f"{HEADER}1.0\t0:00:01\t5\t10\n3.0\t0:00:03\t4\t50\n")
        assert read_costs([tmp_path])["rule"] == Cost(2, 4.0, 3.0, 5.0, 40.0)

    @pytest.mark.parametrize("content", ["h:m:s\n0:00:01\n", f"{HEADER}fast\t0:00:01\t1\t1\n"])
    def test_a_file_of_another_form_is_named(self, tmp_path, content):
        write_text(tmp_path / "rule.tsv", content)
        with pytest.raises(InputError, match=r"rule\.tsv"):
            read_costs([tmp_path])


class TestSoftware:
    def test_versions_are_those_that_are_installed(self):
        found = package_versions()
        for name in ("torch", "numpy", "kornia"):
            assert found[name] == metadata.version(name)
        assert any(name.startswith("opencv") for name in found)

    def test_stages_have_their_versions(self):
        assert stage_versions()["training"] == versions.TRAINING and stage_versions()["pairs"] == versions.PAIRS

    def test_the_commit_and_whether_files_differ_from_it(self, tmp_path):
        if not shutil.which("git"):
            pytest.skip("no git on this machine")

        def git(*arguments: str) -> str:
            who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
            done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        git("init", "-q")
        write_text(tmp_path / "code.py", "1\n")
        git("add", "code.py")
        git("commit", "-q", "-m", "one")
        state = code_state(tmp_path)
        assert state["commit"] == git("rev-parse", "HEAD") and state["changed"] is False
        write_text(tmp_path / "results.csv", "not tracked\n")
        assert code_state(tmp_path)["changed"] is False
        write_text(tmp_path / "code.py", "2\n")
        assert code_state(tmp_path)["changed"] is True
        # A copy inside another repository is not at that one's commit.
        (tmp_path / "copy").mkdir()
        assert code_state(tmp_path / "copy")["commit"] is None

    def test_without_git_the_commit_is_unknown(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        (tmp_path / ".git").mkdir()
        assert code_state(tmp_path) | {"version": ""} == {"version": "", "commit": None, "changed": None}


@pytest.fixture
def content(tmp_path):
    write_text(tmp_path / NASTY.replace("/", "-"), "weights")
    digest = hashlib.sha256(b"zip").hexdigest()
    write_json(tmp_path / "records" / "a.zip.json", {"url": "https://a.org/?x=<&y", "sha256": digest, "size": 3})
    costs = {"pair_shard": Cost(4, 3725.0, 1000.0, 1234.5, 98.7), "tables": Cost(1, 0.4, 0.4, None, None)}
    files = [tmp_path / NASTY.replace("/", "-")] * 2
    return collect({"run": NASTY, "seed": 1}, files, tmp_path / "records", costs, snakemake="9.1")


class TestProvenance:
    def test_files_are_hashed_once_and_downloads_are_as_recorded(self, content):
        assert [entry["sha256"] for entry in content["files"]] == [hashlib.sha256(b"weights").hexdigest()]
        assert content["files"][0]["bytes"] == 7
        assert content["downloads"][0] | {"sha256": ""} == {
            "file": "a.zip", "url": "https://a.org/?x=<&y", "size": 3, "sha256": "",
        }  # fmt: skip

    def test_equal_inputs_give_equal_bytes_and_the_json_gives_all_back(self, content, tmp_path):
        for name in ("one", "two"):
            write_provenance(content, tmp_path / f"{name}.json", tmp_path / f"{name}.html")
        for suffix in ("json", "html"):
            assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
        assert read_json(tmp_path / "one.json") == content

    def test_the_page_stands_alone_escapes_everything_and_has_every_part(self, content, tmp_path):
        write_provenance(content, tmp_path / "p.json", tmp_path / "p.html")
        page = parse(tmp_path / "p.html")
        assert outside(page) == [] and "b" not in page.tags and (tmp_path / "p.html").read_bytes().isascii()
        for text in (
            "9.1",
            content["files"][0]["sha256"],
            "https://a.org/?x=<&y",
            "1 h 02 min",
            "16 min 40 s",
            "1,234",
        ):
            assert text in page.text, text
        assert {"run": NASTY, "seed": 1} in [yaml.safe_load(text) for text in page.text if text.startswith("run:")]

    def test_the_state_of_the_code_is_said_in_words(self, content):
        for state, words in (
            ({"commit": None, "changed": None}, "no git checkout"),
            ({"commit": "abc", "changed": False}, "commit abc, unchanged"),
            ({"commit": "abc", "changed": True}, "commit abc, with changes that are not committed"),
        ):
            code = {"version": "1", **state}
            assert f"<td>1, {words}</td>" in provenance_html({**content, "code": code})

    def test_what_is_missing_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"stage1\.pt"):
            collect({}, [tmp_path / "stage1.pt"], tmp_path, {})
        write_json(tmp_path / "x.json", [1])
        with pytest.raises(InputError, match=r"x\.json"):
            collect({}, [], tmp_path, {})
