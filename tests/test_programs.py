"""The programs' help: each says what it does and shows command lines, which its own parser takes."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segswap import cli
from segswap.program import EXIT_CODES, argument_parser

ROOT = Path(cli.__file__).parents[1]
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


class Parsing(Exception):
    """A program came to the point where it parses; holds its parser."""


@pytest.fixture
def parser_of(monkeypatch):
    """Return a function that gives the parser of a program of the workflow, and executes nothing else of it."""

    def stop(parser: argparse.ArgumentParser) -> None:
        raise Parsing(parser)

    def find(script: Path) -> argparse.ArgumentParser:
        main = runpy.run_path(str(script))["main"]
        with monkeypatch.context() as patched, pytest.raises(Parsing) as found:
            patched.setattr(argparse.ArgumentParser, "parse_args", stop)
            main()
        return found.value.args[0]

    return find


def command_lines(text: str, program: str) -> list[list[str]]:
    """Return the command lines in a text, each as its words; one starts where a line starts with the program."""
    text = text.replace("\\\n", " ")
    starts = [match.start() for match in re.finditer(rf"(?m)^\s*{program} ", text)]
    ends = [*starts[1:], len(text)]
    return [shlex.split(text[start:end], comments=True) for start, end in zip(starts, ends, strict=True)]


def every_argument(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from every_argument(part)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_program_says_what_it_does_and_parses_its_own_example(script, parser_of):
    parser = parser_of(script)
    shown = parser.format_help()
    assert parser.description.strip().endswith(".") and "Example:" in shown
    examples = command_lines(parser.epilog, "python")
    assert examples, "no command line below 'Example:'"
    for example in examples:
        assert example[:2] == ["python", f"workflow/scripts/{script.name}"]
        parser.parse_args(example[2:])
    unexplained = [action.dest for action in every_argument(parser) if not action.help]
    assert not unexplained, f"arguments without a word of help: {unexplained}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_says_what_it_does_and_parses_its_own_examples(name, capsys):
    module = importlib.import_module(f"segswap.commands.{name}")
    examples = command_lines(module.EXAMPLES, "segswap")
    assert examples, f"segswap.commands.{name}.EXAMPLES holds no command line"
    for example in examples:
        assert example[:2] == ["segswap", name]
        cli.argument_parser(name).parse_args(example[1:])
    with pytest.raises(SystemExit) as left:
        cli.argument_parser(name).parse_args([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "Examples:" in shown and examples[0][-1] in shown


def test_the_help_of_the_command_shows_examples_that_parse_and_what_the_exit_codes_mean():
    shown = " ".join(cli.argument_parser(None).format_help().split())
    for example in command_lines(cli.EXAMPLES, "segswap"):
        cli.argument_parser(example[1]).parse_args(example[1:])
        assert shlex.join(example) in shown
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


def test_the_documented_exit_codes_are_those_of_the_programs():
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    section = text.partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"(?m)^\| (\d+) ", section)} == set(EXIT_CODES)


def test_a_docstring_is_filled_to_the_terminal_and_a_command_line_is_left_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    example = "    python x.py --all " + "very-long-path/" * 5 + " \\\n        --more"
    shown = argument_parser(f"Do ``this`` with {'many words ' * 8}.\n\nExample:\n{example}\n").format_help()
    assert example in shown and "`" not in shown
    assert all(len(line) < 40 for line in shown.partition("Example:")[0].splitlines())


# What the examples read


def strings(value: object) -> Iterator[str]:
    """Yield the texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def paths_in(words: list[str]) -> set[str]:
    """Return the demo's paths among the words of a command line, those in JSON values too."""
    found = set()
    for word in words:
        texts = strings(json.loads(word)) if word.startswith("{") else [word]
        found |= {text for text in texts if text.startswith(("results/demo/", "resources/demo/"))}
    return found


@pytest.fixture(scope="module")
def demo_paths() -> set[str]:
    """Every path that a command line of the demo names, under the names that a run gives to what runs share."""
    plan = [sys.executable, "-m", "snakemake", "--cores", "2", "--forceall", "-n", "-p", "--nolock"]
    said = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = command_lines(said.replace("Shell command: ", "").replace("exec python", "python"), "python")
    words = [word for command in commands for word in command]
    links = next(json.loads(word) for word in words if word.startswith('{"objects/train"'))
    found = {word for word in words if not word.startswith("{")} | {text for word in words for text in paths_in([word])}
    for place, folder in links.items():
        found |= {path.replace(folder, f"results/demo/{place}", 1) for path in found if path.startswith(f"{folder}/")}
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_reads_what_the_demo_makes_and_writes_elsewhere(script, demo_paths):
    example = command_lines(ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))), "python")[0]
    folders = {str(parent) for path in demo_paths for parent in Path(path).parents}
    strange = paths_in(example) - demo_paths - folders
    assert not strange, "the demo knows no such file"
    assert any(word.startswith("out/") for word in example)
