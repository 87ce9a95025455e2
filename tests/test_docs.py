"""What documents, docstrings and errors name exists: files, modules, commands, options; and the site holds together."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from edge.cli import app as edge_app
from edge.controlroom.cli import app as control_app
from provisioning.cli import app as provision_app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("provisioning/**/*.md"),
    *ROOT.glob(".github/**/*.*"),
]
MODULES = sorted(
    path for folder in ("edge", "provisioning", "tests", "models") for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts and "build" not in path.parts
)  # fmt: skip
SCRIPTS = [path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file()]
COMMANDS: dict[str, Any] = {
    "lfr-edge": typer.main.get_command(edge_app),
    "lfr-control": typer.main.get_command(control_app),
    "lfr-provision": typer.main.get_command(provision_app),
}

TOP = ["scripts", "tests", "edge", "provisioning", "models", "docs", r"\.ci", r"\.github"]
ROOMS = [path.name for path in sorted((ROOT / "edge").iterdir()) if path.is_dir() and path.name != "__pycache__"]
PATH = re.compile(rf"(?<![\w/.$-])(?:\.\./)?((?:{'|'.join(TOP + ROOMS)})/[\w./-]*[\w/])")
ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc|obj):`~?([^`]+)`")
COMMAND = re.compile(r"(?<![\w./:-])(lfr-(?:edge|control|provision))((?:[ \t]+(?:\\\n)?[^\s`]+)*)")
SCRIPT = re.compile(r"scripts/([\w-]+(?:\.py)?)((?:[ \t]+(?:\\\n)?[^\s`]+)*)")
ELSEWHERE = {
    "docs/models.md": (  # the reader makes them
        "models/faceplugin",
        "models/faceplugin/card.toml",
        "models/mine",
        "models/mine/card.toml",
    ),
    "provisioning/demo/portraits/SOURCES.md": ("tests/test_images/",),  # in the repository that they come from
}
"""Paths that are not this repository's."""
LEFT_OUT = {"docs/decisions/0032-decisions-are-made-on-the-page.md": ("lfr-control adjudicate",)}
"""Commands that a decision names because there is none."""


def prose(path: Path) -> Iterator[tuple[str, str]]:
    """The docstrings (with the class that each belongs to) and comments of a module or script; a page whole."""
    text = path.read_text("utf-8")
    if path.suffix == ".py" or re.match("#!.*python", text):

        def walk(node: ast.AST, owner: str) -> Iterator[tuple[str, str]]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    yield owner, str(child.value.value)
                yield from walk(child, child.name if isinstance(child, ast.ClassDef) else owner)

        yield from walk(ast.parse(text), "")
    if path not in PAGES:
        text = "\n".join(line.strip() for line in text.splitlines() if line.strip().startswith("#"))
    yield "", text


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_file_that_is_named_exists() -> None:
    missing = [
        f"{named(path)}: {found[1]}"
        for path in [*PAGES, *MODULES, *SCRIPTS]
        for _, text in prose(path)
        for found in PATH.finditer(text)
        if not found[1].startswith(ELSEWHERE.get(named(path), ()))
        and not any(
            next(place.glob(shape), None)
            for place in (ROOT, ROOT / "edge", path.parent)
            for shape in (
                found[1],
                f"{found[1]}.py",
                *([f"{found[1]}*"] if text[found.end() :][:1] in {"-", "*"} else []),
            )
        )
    ]
    assert not missing


@cache
def stands(dotted: str) -> bool:
    """Whether a dotted name can be reached; what ``__init__`` gives an object counts as well."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if hasattr(found, part):
                found = getattr(found, part)
                continue
            source = Path(str(sys.modules[found.__module__].__file__)) if isinstance(found, type) else None
            return source is not None and bool(re.search(rf"\bself\.{part}\b", source.read_text("utf-8")))
        return True
    return False


def test_every_name_that_a_docstring_refers_to_exists() -> None:
    missing = []
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for owner, text in prose(path):
            for found in ROLE.finditer(text):
                choices = (found[1], f"{module}.{found[1]}", f"{module}.{owner}.{found[1]}")
                if not any(stands(choice) for choice in choices):
                    missing.append(f"{named(path)}: {found[1]}")
    assert not missing


def wrong(name: str, rest: str) -> str:
    """What is wrong with a command line; nothing when it could be typed."""
    node, words = COMMANDS[name], rest.replace("\\\n", " ").split()
    at = 0
    while hasattr(node, "commands") and at < len(words) and re.fullmatch(r"[a-z][a-z-]*(\|[a-z-]+)*[.,;)]?", words[at]):
        choices = words[at].rstrip(".,;)").split("|")
        if missing := [choice for choice in choices if choice not in node.commands]:
            return f"{name} {' '.join(words[:at])} has no {missing[0]}"
        node, at = node.commands[choices[0]], at + 1
    options = {option for one in node.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    for word in words[at:]:
        if word in {"|", "&&", ";", "#", "→"}:
            break
        if (found := re.match(r"\[?(--[a-z][a-z-]*)", word)) and found[1] not in options:
            return f"{name} {' '.join(words[:at])} has no {found[1]}"
    return ""


def code(text: str) -> list[str]:
    """What a page shows as code."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return [*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL))]


SPANS = [(named(path), span) for path in PAGES for span in code(path.read_text("utf-8"))]


def test_every_command_on_a_page_can_be_typed() -> None:
    found = [(name, line) for name, span in SPANS for line in COMMAND.finditer(span)]
    assert len(found) > 50
    faults = [
        f"{name}: {fault}"
        for name, line in found
        if not line[0].startswith(LEFT_OUT.get(name, ("-",))) and (fault := wrong(line[1], line[2]))
    ]
    assert not faults


def test_every_option_of_a_script_on_a_page_is_one() -> None:
    faults = []
    for name, span in SPANS:
        for line in SCRIPT.finditer(span):
            own = (ROOT / "scripts" / line[1]).read_text("utf-8")
            own += (ROOT / "provisioning" / "demo" / "__main__.py").read_text("utf-8") if line[1] == "demo" else ""
            options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line[2].split("lfr-")[0])
            # scripts/test hands all on to pytest.
            faults += [f"{name}: scripts/{line[1]} {o}" for o in options if o not in own and line[1] != "test"]
    assert not faults


def test_every_command_that_an_error_or_a_docstring_names_can_be_typed() -> None:
    faults = [
        f"{named(path)}:{node.lineno}: {fault}"
        for path in MODULES
        if named(path).startswith(("edge/", "provisioning/"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for line in COMMAND.finditer(node.value)
        if (fault := wrong(line[1], line[2]))
    ]
    assert not faults


def test_a_file_a_name_a_command_and_an_option_that_do_not_exist_are_noticed(tmp_path: Path) -> None:
    found = PATH.search("see `scripts/bench-index` for it")
    assert found
    assert found[1] == "scripts/bench-index"
    assert not stands("edge.match.index.Index.recall")
    assert stands("edge.match.index.Index.search")
    assert wrong("lfr-provision", " image keyring") == "lfr-provision image has no keyring"
    assert wrong("lfr-edge", " page --portt 8080") == "lfr-edge page has no --portt"
    assert wrong("lfr-edge", " page --port 8080") == ""


NO_NETWORK = """
import socket, sys
def refuse(*_, **__): raise SystemExit("somebody asked for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])
"""


def build(tree: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, out],
        cwd=tree,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_site_is_built_without_a_network_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(ROOT.glob("docs/**/*.md")))  # and one for what is not found
    fetched = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for page in pages:
        assert not fetched.findall(page.read_text("utf-8")), page.name
    for sheet in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet.name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[x](no-such-page.md)", "no-such-page.md"),
        ("[x](config.md#no-such-key)", "no-such-key"),
        ("[x](../SECURITY.md)", "SECURITY.md"),
        ("![x](images/no-such-picture.jpg)", "no-such-picture.jpg"),
    ],
)
def test_a_broken_link_breaks_the_site(tmp_path: Path, line: str, said: str) -> None:
    for folder in ("docs", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "overseer.md").open("a") as page:
        page.write(f"\n{line}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert said in done.stderr
