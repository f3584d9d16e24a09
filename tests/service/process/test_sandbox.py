"""The sandboxes that folds run in: how one is chosen, and what the process of a fold takes along."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.process import landlock, sandbox, seccomp
from service.process.sandbox import Sandbox, find_sandbox
from tests.support.service.sandbox import required

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")


def test_the_best_that_works_is_chosen(tmp_path, monkeypatch):
    assert find_sandbox("off", tmp_path) is None
    works: set[tuple[str, bool]] = set()
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/bwrap")
    monkeypatch.setattr(landlock, "version", lambda: 2)
    monkeypatch.setattr(seccomp, "is_known", lambda: True)
    monkeypatch.setattr(Sandbox, "works", lambda self, _: (self.kind, bool(self.options)) in works)
    assert find_sandbox("auto", tmp_path) is None
    with pytest.raises(RuntimeError, match="bubblewrap cannot make namespaces here, and Landlock does not work"):
        find_sandbox("require", tmp_path)
    for one in (("landlock", True), ("bubblewrap", False), ("bubblewrap", True)):
        works.add(one)
        found = find_sandbox("require", tmp_path)
        assert found is not None
        assert (found.kind, bool(found.options)) == one
    monkeypatch.setattr(landlock, "version", lambda: 1)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(RuntimeError, match="bubblewrap is not installed, and Landlock is not in this kernel"):
        find_sandbox("require", tmp_path)


def test_a_program_that_is_no_bubblewrap_does_not_work(tmp_path):
    assert not Sandbox("bubblewrap", "/bin/false").works(tmp_path)


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_a_wall_that_the_kernel_refuses_is_found_before_the_first_fold(tmp_path, monkeypatch, kind):
    found = required(kind, tmp_path)
    assert found.works(tmp_path)
    monkeypatch.setattr(sandbox, "PROBE", f"{sandbox.PROBE}\nraise OSError")
    assert not found.works(tmp_path)
    assert not (tmp_path / "probe").exists()


@pytest.mark.skipif(not all(path.exists() for path in HEADERS), reason="the kernel's headers are not installed")
def test_the_numbers_of_the_calls_are_those_of_the_kernel():
    tables = [dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", path.read_text())) for path in HEADERS]
    calls = seccomp.DENIED | seccomp.METADATA | {"clone": seccomp.CLONE, "prlimit64": seccomp.PRLIMIT}
    calls |= {"ioctl": seccomp.IOCTL, "clone3": (seccomp.CLONE3, seccomp.CLONE3)}
    for name, numbers in calls.items():
        for number, table in zip(numbers, tables, strict=True):
            is_newer = name not in table and number is not None and number > 424
            assert is_newer or str(number) == table.get(name, "None"), name
