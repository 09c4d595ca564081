"""What the pages say is so: commands that the parser takes, names that exist, links that lead somewhere, examples."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from typer.main import get_command

from eggan.cli import app
from eggan.errors import EgganError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every line `eggan …` in the page's code blocks, fenced or indented."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif (fenced or line.startswith("    ")) and re.match(r"\s*eggan ", line):
            yield shlex.split(line, comments=True)[1:]


def check(arguments: list[str]) -> None:
    """Parse as `eggan ARGUMENTS` does, and run nothing."""
    command = get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    try:
        command.make_context(command.name, list(arguments))
    except EgganError:
        assert "--explain" in arguments  # it works while it is parsed, and the file is not there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_parser_takes_every_command_of_a_page(page: Path) -> None:
    for arguments in commands(page):
        try:
            check(arguments)
        except Exception as error:
            pytest.fail(f"eggan {shlex.join(arguments)}: {error!r}")


def test_the_test_of_commands_finds_them_and_would_fail() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 40
    with pytest.raises(Exception, match="--ou"):
        check(["edit", "me.jpg", "--ou", "a.jpg", "--au", "12=4"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_name_of_the_api_page_exists() -> None:
    names = set(re.findall(r"`(eggan(?:\.\w+)+)", (ROOT / "docs/api.md").read_text()))
    assert len(names) > 15
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), name


def test_the_examples_of_the_api_page_give_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(ROOT / "docs/api.md"), module_relative=False, encoding="utf-8")
    assert (failed, tried > 15) == (0, True)
