"""The files of the page: small, complete, nothing in them that a strict policy or a hostile name could trip over."""

from __future__ import annotations

import re
import subprocess
import tomllib
from html.parser import HTMLParser

import pytest

from tests.support import ROOT

STATIC = ROOT / "service" / "static"
FILES = sorted(STATIC.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
LARGEST = 350  # lines of a file one enjoys opening
# What makes markup of text, or code of text.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\b|new Function"
    r"|setAttribute\(.(style|on)|srcdoc|javascript:"
)
ELSEWHERE = re.compile(r"(https?:)?//(?!www\.w3\.org/2000/svg|this-server)[a-z0-9]", re.IGNORECASE)


class Tags(HTMLParser):
    """The elements of the page as pairs of a name and its attributes, and the text of its scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed((STATIC / "index.html").read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in {"script", "style"}:
            self.inline += data.strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_small_and_begin_with_their_purpose(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= LARGEST
    if path.suffix in {".js", ".css"}:
        assert lines[0].startswith(("// ", "/* "))
        assert lines[0].rstrip(" */").endswith(".")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_never_make_markup_of_text(path):
    assert not FORBIDDEN.search(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_asked_of_other_servers(path):
    text = re.sub(r"^\s*(//|/?\*).*$", "", path.read_text(), flags=re.MULTILINE)
    assert not ELSEWHERE.search(text)
    assert "@import" not in text


def test_the_page_holds_no_inline_script_or_style():
    tags = Tags()
    assert tags.inline == ""
    assert not [tag for tag, _ in tags.found if tag == "style"]
    assert not [name for _, attributes in tags.found for name in attributes if name == "style" or name.startswith("on")]


def test_whatever_is_referred_to_is_there():
    pages = [value for _, attributes in Tags().found for name, value in attributes.items() if name in {"src", "href"}]
    assets = [value for value in pages if value and value.startswith("/static/")]
    assert len(assets) == 5
    imported = [name for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', path.read_text())]
    wanted = {value.removeprefix("/static/") for value in assets} | set(imported)
    assert wanted == {path.name for path in FILES} - {"index.html"}


def test_who_has_no_script_is_told_another_way():
    text = (STATIC / "index.html").read_text()
    assert "curl -fT model.onnx" in text[text.index("<noscript>") : text.index("</noscript>")]


@pytest.mark.parametrize("missing", ["", "chromium", "bwrap", "zip"])
def test_a_missing_program_is_told_and_how_to_get_it(tmp_path, missing):
    for command in {"chromium", "bwrap", "zip"} - {missing}:
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    script = ["/bin/sh", str(ROOT / "tests" / "install_packages.sh")]
    done = subprocess.run(script, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == bool(missing)
    assert ("apt-get install chromium bubblewrap zip" in done.stderr) == bool(missing)


def test_the_page_is_part_of_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["service"]
    assert {path for pattern in data for path in (ROOT / "service").glob(pattern)} >= set(FILES)
