"""The files of the page: small, complete, nothing in them that a strict policy or a hostile name could trip over."""

from __future__ import annotations

import re
import subprocess
import tomllib
from html.parser import HTMLParser

import pytest

from tests.support import ROOT
from tests.support.waiting import PATIENCE

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
    assets = [value for value in pages if value and value.startswith("static/")]
    assert len(assets) == 5
    imported = [name for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', path.read_text())]
    wanted = {value.removeprefix("static/") for value in assets} | set(imported)
    assert wanted == {path.name for path in FILES} - {"index.html"}


def test_who_has_no_script_is_shown_another_way():
    text = (STATIC / "index.html").read_text()
    assert "curl -fT model.onnx" in text[text.index("<noscript>") : text.index("</noscript>")]


PROGRAMS = {"chromium", "bwrap", "zip"}
RECORDING = 'echo "$0 $*"'  # in the place of what would change the system


def installed(folder, *, has, variables=None, **programs):
    """What the script prints that installs programs, on a system that has these, and others with these texts."""
    for command, text in (dict.fromkeys(has, "") | programs).items():
        path = folder / command.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    script = ["/bin/sh", str(ROOT / "tests" / "install_packages.sh")]
    environment = {"PATH": str(folder)} | (variables or {})
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("missing", ["", "chromium", "bwrap", "zip"])
def test_a_missing_program_is_reported_and_how_to_get_it(tmp_path, missing):
    said = installed(tmp_path, has=PROGRAMS - {missing})
    assert ("chromium bubblewrap zip" in said) == bool(missing)
    assert ("this system has no apt-get" in said) == bool(missing)
    assert ("The tests that need them are skipped" in said) == bool(missing)


@pytest.mark.parametrize(
    ("variables", "programs", "why"),
    [
        ({"BNFOLD_NO_PACKAGES": "1"}, {"apt_get": RECORDING, "id": "echo 0"}, "BNFOLD_NO_PACKAGES is 1"),
        ({}, {"apt_get": RECORDING, "id": "echo 1000"}, "only root may install packages here"),
        ({}, {"apt_get": "exit 1", "id": "echo 0"}, "the lists of packages cannot be read"),
        ({}, {"apt_get": '[ "$1" = update ]', "id": "echo 0", "env": "exit 1"}, "apt-get could not do it"),
    ],
)
def test_where_nothing_may_be_installed_the_tests_go_on_without(tmp_path, variables, programs, why):
    said = installed(tmp_path, has=(), variables=variables, **programs)
    assert why in said
    for name in ("Chromium (tests of the page)", "bubblewrap (tests of the sandbox)", "zip (tests of archives)"):
        assert name in said
    assert "apt-get " not in said.replace("apt-get install\n", "").replace("apt-get could", "")


def test_what_is_installed_is_listed_before(tmp_path):
    said = installed(tmp_path, has={"bwrap"}, apt_get=RECORDING, id="echo 0", env=RECORDING).splitlines()
    assert said[0].startswith("Missing: Chromium (tests of the page), zip (tests of archives). Installing the Debian")
    assert "chromium fonts-dejavu-core zip" in said[0]
    assert said[1].endswith("apt-get update -qq")
    assert said[2].endswith("apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core zip")


def test_servers_are_unpacked_and_not_installed(tmp_path, monkeypatch):
    """As if their packages were there: what is installed would listen on ports of this machine."""
    monkeypatch.chdir(tmp_path)
    names = "usr/sbin/nginx usr/bin/caddy usr/bin/promtool"
    unpacks = f'/bin/mkdir -p usr/sbin usr/bin; for name in {names}; do printf "" > $name; /bin/chmod +x $name; done'
    programs = {
        "apt_get": 'echo "$*" > asked; for name in nginx caddy prometheus; do printf "" > $name.deb; done',
        "dpkg": unpacks,
        "dpkg_deb": "exit 0",
        "tar": "exit 0",
        "rm": '/bin/rm "$@"',
        "mkdir": '/bin/mkdir "$@"',
    }
    assert "Unpacking nginx, Caddy and promtool" in installed(tmp_path, has=PROGRAMS, **programs)
    assert (tmp_path / ".cache/programs/asked").read_text() == "download -qq nginx caddy prometheus\n"
    assert not list((tmp_path / ".cache/programs").glob("*.deb"))
    assert installed(tmp_path, has=PROGRAMS, **programs) == ""


def test_the_page_is_part_of_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["service"]
    assert {path for pattern in data for path in (ROOT / "service").glob(pattern)} >= set(FILES)
