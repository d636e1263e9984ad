"""Where a run's numbers come from: its software, settings, files by their hash, and what its rules cost."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import segswap
from segswap import versions
from segswap.errors import InputError
from segswap.files import read_json, sha256, write_json, write_text
from segswap.progress import progress
from segswap.report.document import duration, number, style_sheet, table
from segswap.report.times import Cost

# Where packagers differ on the name of a distribution, all its names.
_PACKAGES = (
    ("torch",),
    ("kornia",),
    ("numpy",),
    ("opencv-python-headless", "opencv-python", "opencv"),
    ("pillow",),
    ("pyarrow",),
    ("pycocotools",),
    ("safetensors",),
    ("scikit-image",),
    ("scikit-learn",),
    ("scipy",),
    ("webdataset",),
)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that make numbers, by name; those not installed left out."""
    found = {"python": platform.python_version()}
    for names in _PACKAGES:
        for name in names:
            try:
                found[name] = metadata.version(name)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_state(folder: str | os.PathLike) -> dict[str, Any]:
    """Return the state of the code in a folder.

    Returns:
        ``version``: of the package; ``commit``: the checked-out commit, None where the folder is no git checkout of
        its own (a copy, an installed package) or git is absent; ``changed``: whether tracked files differ from the
        commit, None without one.
    """
    folder = Path(folder)
    # A copy inside some other repository must not pass for a commit of that one.
    commit = _git(folder, "rev-parse", "HEAD") if (folder / ".git").exists() else None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {
        "version": segswap.__version__,
        "commit": commit,
        "changed": None if changes is None else bool(changes),
    }


def stage_versions() -> dict[str, int]:
    """Return what ``segswap.versions`` says of each stage, by its name in small letters."""
    return {name.lower(): value for name, value in vars(versions).items() if name.isupper()}


def _file(path: str | os.PathLike) -> dict[str, Any]:
    try:
        return {"path": str(path), "bytes": Path(path).stat().st_size, "sha256": sha256(path)}
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); remake or restore the file") from None


def collect(
    config: Mapping[str, Any],
    files: Iterable[str | os.PathLike],
    records: str | os.PathLike,
    costs: Mapping[str, Cost],
    snakemake: str | None = None,
) -> dict[str, Any]:
    """Return the provenance of a run, plain values for ``write_provenance``.

    Versions and code are those of the Python process that calls this.

    Args:
        config: the settings in use, plain values.
        files: what the results rest on; each is read whole and hashed.
        records: folder of the records of downloads (``download.download_recorded``); may be absent.
        costs: of ``times.read_costs``.
        snakemake: version of the Snakemake that runs the workflow; a job's environment need not hold it.

    Raises:
        InputError: naming a file that is missing, or a record that is none.
    """
    downloads = []
    for path in sorted(Path(records).glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or not {"url", "sha256", "size"} <= set(record):
            raise InputError(f"{path}: not a record of a download (url, sha256, size); restore or delete the file")
        downloads.append({"file": path.stem, **{key: record[key] for key in ("url", "size", "sha256")}})
    return {
        "code": code_state(Path(segswap.__file__).parent.parent),
        "packages": {**package_versions(), **({"snakemake": snakemake} if snakemake else {})},
        "machine": f"{platform.system()}, {platform.machine()}",
        "stages": stage_versions(),
        "config": dict(config),
        "files": [_file(path) for path in progress(dict.fromkeys(map(str, files)), "hashes")],
        "downloads": downloads,
        "costs": {rule: dataclasses.asdict(cost) for rule, cost in costs.items()},
    }


def _code_words(code: Mapping[str, Any]) -> str:
    if code["commit"] is None:
        return f"{code['version']}, no git checkout"
    changed = {None: "", True: ", with changes that are not committed", False: ", unchanged"}[code["changed"]]
    return f"{code['version']}, commit {code['commit']}{changed}"


def _cost_row(rule: str, cost: Mapping[str, Any]) -> list[str]:
    return [
        rule,
        number(cost["jobs"]),
        duration(cost["seconds"]),
        duration(cost["longest"]),
        "-" if cost["memory"] is None else number(round(cost["memory"])),
        "-" if cost["load"] is None else number(round(cost["load"])),
    ]


def _hashes(files: Iterable[tuple[str, str, int, str]]) -> str:
    """Return a list of files with hash, size and address: 64 digits, which a list breaks where a table would not."""
    entries = (
        f"<dt>{escape(name)}</dt><dd><code>{escape(digest)}</code><br>{number(size)} bytes"
        + (f", <span>{escape(url)}</span></dd>" if url else "</dd>")
        for name, digest, size, url in files
    )
    return f"<dl>{''.join(entries)}</dl>"


def provenance_html(content: Mapping[str, Any]) -> str:
    """Return the provenance as HTML: a section without the frame of a document.

    Args:
        content: of ``collect``.
    """
    software = {"segswap": _code_words(content["code"]), **content["packages"], "machine": content["machine"]}
    settings = yaml.safe_dump(content["config"], sort_keys=False, allow_unicode=True, width=100)
    stages = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in content["stages"].items())
    parts = [
        "<h3>Software</h3>",
        '<p class="note">Of the job that wrote this, after all others.</p>',
        table(["package", "version"], software.items()),
        f'<p class="note">Versions of the stages (segswap/versions.py): {escape(stages)}.</p>',
        "<h3>Files</h3>",
        '<p class="note">SHA-256 of what the results rest on. The manifest of pairs holds that of each shard.</p>',
        _hashes((entry["path"], entry["sha256"], entry["bytes"], "") for entry in content["files"]),
    ]
    if content["downloads"]:
        parts += [
            "<h3>Downloads</h3>",
            '<p class="note">All that were fetched in this folder, also for other runs.</p>',
            _hashes((entry["file"], entry["sha256"], entry["size"], entry["url"]) for entry in content["downloads"]),
        ]
    if content["costs"]:
        parts += [
            "<h3>Time and memory</h3>",
            '<p class="note">By rule; rules whose jobs take a moment are not measured. Memory: the largest of any job, '
            "with its processes. CPU: in percent of one core, mean over the time of the jobs.</p>",
            table(
                ["rule", "jobs", "time, all jobs", "longest job", "memory, MB", "CPU, %"],
                (_cost_row(rule, cost) for rule, cost in content["costs"].items()),
            ),
        ]
    parts += [
        "<h3>Settings</h3>",
        f"<details><summary>The whole configuration</summary><pre>{escape(settings)}</pre></details>",
    ]
    return "<section>\n" + "\n".join(parts) + "\n</section>\n"


def write_provenance(content: Mapping[str, Any], json: str | os.PathLike, html: str | os.PathLike) -> None:
    """Write the provenance of a run twice.

    Args:
        content: of ``collect``.
        json: ``content`` as it is.
        html: the same for people; opens by itself, and the report page takes it in as it is.
    """
    write_json(json, content)
    # Without the frame of a document no encoding is declared, so everything beyond ASCII is escaped.
    fragment = style_sheet() + "\n" + provenance_html(content)
    write_text(html, fragment.encode("ascii", "xmlcharrefreplace").decode())
