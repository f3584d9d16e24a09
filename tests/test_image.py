"""The Dockerfile, its pinned packages, and how the documents say to install bnfold. `make image` runs its steps."""

from __future__ import annotations

import fnmatch
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from folding.errors import how_to_install
from tests.image import DOCKERFILE, steps
from tests.support import ROOT
from tests.support.service.server import Running

STEPS = steps(DOCKERFILE.read_text())
FINAL = STEPS[max(number for number, step in enumerate(STEPS) if step.name == "FROM") :]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
SEARCHED = ("*.md", "docs/**/*.md", "benchmarks/*.md", "integrations/**/*", "folding/**/*.py", "service/**/*.py",
            "service/static/*", "Makefile", "Dockerfile")  # fmt: skip
SPOKEN = [path for pattern in SEARCHED for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".pyc"]
# bnfold by its bare name; "./bnfold-1.whl", ".[extra]" and "a checkout of bnfold" are places
FROM_AN_INDEX = re.compile(
    r"(?:pip3?|pipx|uv|uvx)[^\n`]*? (?:install|add|run)\b[^\n`;(,:&]*?[\s'\"](?<!of )bnfold(?![\w./-])"
    r"|packages_to_install=.*[\"']bnfold\b"
)


def only(name: str) -> str:
    (step,) = [step for step in FINAL if step.name == name]
    return step.text


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_says_to_install_bnfold_from_an_index(path):
    for line in path.read_text().splitlines():
        assert not FROM_AN_INDEX.search(line), line


@pytest.mark.parametrize(
    "line",
    [
        "pip install bnfold",
        "pip install 'bnfold[service]'",
        "packages_to_install=['bnfold']",
        "python -m pip install --quiet bnfold mlflow",
        "uv pip install bnfold",
    ],
)
def test_that_is_noticed(line):
    assert FROM_AN_INDEX.search(line)


@pytest.mark.parametrize("line", ["pip install .", "pip install './bnfold-0.1.0-py3-none-any.whl[service]'",
                                  how_to_install("service"), "pip install . && bnfold serve"])  # fmt: skip
def test_a_checkout_and_a_wheel_are_not(line):
    assert not FROM_AN_INDEX.search(line)


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "image" / name).read_text()
    found = PINNED.findall(text)
    assert "".join(f"{package}=={version} \\\n{hashes}" for package, version, hashes in found) == text
    return {canonicalize_name(package): version for package, version, _ in found}


def extra(name: str) -> set[Requirement]:
    """What an extra brings, with the other extras that it names."""
    named = {Requirement(text) for text in PROJECT["optional-dependencies"][name]}
    others = {one for one in named if one.name == PROJECT["name"]}
    return (named - others).union(*(extra(inner) for one in others for inner in one.extras))


@pytest.mark.parametrize("name", ["service", "cluster", "oidc", "tracing"])
def test_the_image_installs_what_the_service_asks_for_pinned_and_hashed(name):
    """One image is API and worker, with tokens of an issuer and with traces."""
    assert f"--extra {name} " in (ROOT / "Makefile").read_text()
    versions = pinned("service.txt")
    for one in extra(name) | {Requirement(text) for text in PROJECT["dependencies"]}:
        assert versions[canonicalize_name(one.name)] in one.specifier, f"{one}: `make lock`"


def test_it_is_built_with_what_the_build_asks_for():
    versions = pinned("build.txt")
    for line in (ROOT / "image" / "build.in").read_text().splitlines():
        if line and not line.startswith("#"):
            one = Requirement(line)
            assert versions[canonicalize_name(one.name)] in one.specifier, f"{one}: `make lock`"


def test_no_step_installs_what_is_not_pinned():
    installs = [
        part
        for step in STEPS
        if step.name == "RUN"
        for part in step.text.split("&&")
        if "pip" in part and " install " in part
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)


def test_no_copied_file_is_kept_from_the_build():
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [source for step in STEPS if step.name == "COPY" and not step.flags for source in step.words[:-1]]
    assert {"image", "folding", "service", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored)


def test_the_image_serves_as_somebody_else_than_root():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER"))
    environment = dict(word.split("=", 1) for word in next(step for step in FINAL if step.name == "ENV").words)
    assert environment["BNFOLD_DATA"] == only("VOLUME")
    assert environment["BNFOLD_PORT"] == only("EXPOSE")
    assert environment["BNFOLD_HOST"] == "0.0.0.0"  # noqa: S104  reachable from outside the container
    assert any("bubblewrap" in step.text for step in FINAL if step.name == "RUN")
    order = [step.name for step in FINAL]
    assert order.index("USER") > max(number for number, name in enumerate(order) if name in {"RUN", "COPY"})


def test_its_health_is_that_of_a_server(tmp_path):
    (address,) = re.findall(r"urlopen\('http://127\.0\.0\.1:(\d+)(/[a-z]+)'", only("HEALTHCHECK"))
    assert address[0] == only("EXPOSE")
    with Running(tmp_path) as server:
        assert server.client.get(address[1]).status_code == 200
