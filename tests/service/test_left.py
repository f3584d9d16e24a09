"""What a child leaves behind: it may be anything, and nothing of it leads the server to what is not the child's own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.left import content, remove
from service.process.child import Child
from service.process.children import Children
from service.work import IN, OUT
from tests.service.process.test_children import BOUNDS, FAULTY, asked, run
from tests.support.service.server import Running

if TYPE_CHECKING:
    from collections.abc import Callable


def files() -> int:
    """How many are open in this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def in_a_linked_folder(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir()
    (path.parent.parent / "elsewhere" / path.name).write_bytes(b"somebody else's")
    path.parent.rmdir()
    path.parent.symlink_to("elsewhere")


def to_a_file_beside_it(path: Path) -> None:
    path.with_name("other").write_bytes(b"its own")
    path.symlink_to("other")


@pytest.mark.parametrize(
    "make", [to_a_file_beside_it, in_a_linked_folder, os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")]
)
def test_only_a_regular_file_of_its_folder_is_opened(tmp_path, make: Callable[[Path], None]):
    (tmp_path / OUT).mkdir()
    make(tmp_path / OUT / "report.json")
    before = files()
    with pytest.raises((OSError, ValueError)):
        content(tmp_path / OUT / "report.json")
    assert files() == before


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "report.json").write_bytes(b"{}")
    assert content(tmp_path / "report.json") == b"{}"


@pytest.mark.parametrize("data", [b"DIR", b"MEDIA"], ids=bytes.decode)
def test_an_answer_that_no_fold_gives_is_none(tmp_path, data):
    before = files()
    assert run(None, tmp_path / "job", data, asked())[0].slug == "crashed"
    assert files() == before


def test_an_inspection_does_not_follow_links(tmp_path):
    with Running(tmp_path / "data") as running:
        answer = running.client.post("/v1/inspect", content=b"LINK")
        assert (answer.status_code, "root:" in answer.text) == (500, False)


def test_folders_are_removed_however_deep(tmp_path):
    async def story() -> None:
        children = Children(tmp_path / "jobs", BOUNDS, None, FAULTY)
        await children.open()
        async with children.child() as child:
            (child.folder / IN / "model.onnx").write_bytes(b"NEST")
            assert (await child.run(asked(), lambda *_: None)).slug == "crashed"
        await children.close()

    asyncio.run(story())
    assert not list((tmp_path / "jobs").iterdir())


def test_a_server_starts_beside_what_cannot_be_removed(tmp_path, monkeypatch):
    (tmp_path / "jobs" / "left").mkdir(parents=True)
    monkeypatch.setattr("service.process.children.remove", lambda _: None)
    asyncio.run(Children(tmp_path / "jobs", BOUNDS, None, FAULTY).open())
    remove(tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize("spares", [0, 1])
def test_a_child_that_nobody_waits_for_any_more_is_the_next_ones(tmp_path, spares):
    children = Children(tmp_path / "jobs", BOUNDS, None, FAULTY, spares)

    async def use() -> None:
        async with children.child():
            await asyncio.Event().wait()

    async def story() -> None:
        await children.open()
        for milliseconds in (0, 1, 3, 5, 10, 20, 40):
            using = asyncio.create_task(use())
            await asyncio.sleep(milliseconds / 1000)
            using.cancel()
            await asyncio.wait([using])
        await asyncio.wait(children._ready or [using])
        assert len(list((tmp_path / "jobs").iterdir())) == len(children._ready) <= max(spares, 1)
        await children.close()

    asyncio.run(story())
    assert not list((tmp_path / "jobs").iterdir())


def test_a_child_that_could_not_wait_does_not_fail_a_fold(tmp_path, monkeypatch):
    async def full(*_: object) -> Child:
        raise OSError(28, "No space left on device")

    async def story() -> None:
        children = Children(tmp_path / "jobs", BOUNDS, None, FAULTY, spares=1)
        with monkeypatch.context() as patch:
            patch.setattr(Child, "start", full)
            await children.open()
            await asyncio.wait(children._ready)
        async with children.child() as child:
            assert child.is_alive
        await children.close()

    asyncio.run(story())
    assert not list((tmp_path / "jobs").iterdir())
