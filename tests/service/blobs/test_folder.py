"""Blobs are whole and durable under their address, or not there."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from service.blobs import folder as blobs
from service.blobs import spool
from service.blobs.folder import BLOCK, DirectoryBlobs
from service.blobs.interface import DamagedError
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLENTY = 1 << 30


async def pieces(*chunks: bytes | BaseException) -> AsyncIterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


async def put(store: DirectoryBlobs, *chunks: bytes | BaseException, limit: int = PLENTY) -> str:
    async with store.receive(pieces(*chunks), limit) as draft:
        await store.commit(draft)
    return draft.blob.sha256


async def content(store: DirectoryBlobs, sha256: str, start: int, end: int) -> bytes:
    return b"".join([block async for block in store.read(sha256, start, end)])


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_content_lies_under_its_address(tmp_path):
    data = os.urandom(2 * BLOCK + 5)

    async def story() -> None:
        store = DirectoryBlobs(tmp_path)
        sha256 = await put(store, data[:7], b"", data[7 : BLOCK + 9], data[BLOCK + 9 :])
        assert sha256 == hashlib.sha256(data).hexdigest() == await put(store, data)
        assert files(tmp_path) == [f"sha256/{sha256[:2]}/{sha256[2:]}"]
        assert await store.size(sha256) == len(data)
        assert await content(store, sha256, 3, BLOCK + 4) == data[3 : BLOCK + 4]
        await store.place(sha256, tmp_path / "linked", shared=True)
        store.delete(sha256)
        store.delete(sha256)
        assert await store.size(sha256) is None
        assert (tmp_path / "linked").read_bytes() == data
        with pytest.raises(FileNotFoundError):
            await content(store, sha256, 0, 1)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("spoil", "size", "content_"),
    [
        (lambda path: path.unlink(), False, False),
        (lambda path: path.write_bytes(b"a mod"), False, False),
        (lambda path: path.write_bytes(b"A model"), True, False),
        (lambda _: None, True, True),
    ],
    ids=["lost", "cut", "changed", "whole"],
)
def test_what_a_disk_did_to_a_blob_is_seen(tmp_path, spoil, size, content_):
    data = b"a model"

    async def story() -> None:
        store = DirectoryBlobs(tmp_path)
        blob = blobs.Blob(await put(store, data), len(data))
        store._path(blob.sha256).chmod(0o600)
        spoil(store._path(blob.sha256))
        assert await store.is_whole(blob, by_content=False) == size
        assert await store.is_whole(blob, by_content=True) == content_
        if size and not content_:
            with pytest.raises(DamagedError):
                await content(store, blob.sha256, 0, len(data))
            assert await content(store, blob.sha256, 1, len(data)) == data[1:]  # a part says nothing of the whole

    asyncio.run(story())


def test_the_end_of_what_is_damaged_is_never_sent(tmp_path):
    async def story() -> None:
        store, data = DirectoryBlobs(tmp_path), bytes(3 * BLOCK)
        sha256 = await put(store, data)
        store._path(sha256).chmod(0o600)
        store._path(sha256).write_bytes(b"x" + data[1:])
        sent = 0
        with pytest.raises(DamagedError):  # noqa: PT012  what came before it counts
            async for block in store.read(sha256, 0, len(data)):
                sent += len(block)
        assert sent == 2 * BLOCK

    asyncio.run(story())


def test_the_first_bytes_of_a_draft_are_known(tmp_path):
    async def story() -> None:
        async with DirectoryBlobs(tmp_path).receive(pieces(b"P", b"K\3", b"\4more"), PLENTY) as draft:
            assert draft.magic == b"PK\3\4"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("chunks", "limit", "error"),
    [
        ((b"x" * BLOCK, ConnectionError()), PLENTY, ConnectionError),
        ((b"x" * BLOCK, b"x"), BLOCK, Problem),
        ((b"x" * BLOCK, asyncio.CancelledError()), PLENTY, asyncio.CancelledError),
    ],
)
def test_an_upload_that_fails_leaves_nothing(tmp_path, chunks, limit, error):
    async def story() -> None:
        store = DirectoryBlobs(tmp_path)
        with pytest.raises(error):
            await put(store, *chunks, limit=limit)

    asyncio.run(story())
    assert files(tmp_path) == []


def test_a_cancelled_upload_waits_for_its_thread_and_leaves_nothing(tmp_path):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * BLOCK

    async def story() -> None:
        store = DirectoryBlobs(tmp_path)

        async def upload() -> None:
            async with store.receive(endless(), 1 << 40):
                raise AssertionError

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(upload(), 0.2)

    asyncio.run(story())
    assert files(tmp_path) == []


def test_what_a_killed_server_began_is_removed_at_the_start(tmp_path):
    DirectoryBlobs(tmp_path)
    (tmp_path / "partial" / "left").write_bytes(b"half")
    DirectoryBlobs(tmp_path)
    assert files(tmp_path) == []


def test_the_disk_is_not_filled(tmp_path, monkeypatch):
    store = DirectoryBlobs(tmp_path, low_water=10)
    free = iter([100, 100, 9])
    monkeypatch.setattr(spool, "LOOK_EVERY", BLOCK)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: type("Usage", (), {"free": next(free) + BLOCK})())
    with pytest.raises(Problem, match="too little disk space") as caught:
        asyncio.run(put(store, b"x" * BLOCK, b"y" * BLOCK))
    assert caught.value.slug == "insufficient-storage"
    assert files(tmp_path) == []


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, Problem), (errno.EIO, OSError)])
def test_a_full_disk_is_distinguished(tmp_path, monkeypatch, number, error):
    def fail(*_: object) -> None:
        raise OSError(number, "no")

    store = DirectoryBlobs(tmp_path)
    monkeypatch.setattr(spool.os, "fsync", fail)
    with pytest.raises(error):
        asyncio.run(put(store, b"x"))
    assert files(tmp_path) == []


def test_a_file_is_adopted_by_its_content(tmp_path):
    async def story() -> None:
        store = DirectoryBlobs(tmp_path)
        for _ in range(2):
            (tmp_path / "result").write_bytes(b"folded")
            draft = await store.adopt(tmp_path / "result")
            assert draft.blob == blobs.Blob(hashlib.sha256(b"folded").hexdigest(), 6)
            await store.commit(draft)
            assert list(store.stored()) == [draft.blob]
        assert len(files(tmp_path)) == 1

    asyncio.run(story())


def test_what_is_there_is_written_again_as_if_it_were_not(tmp_path, monkeypatch):
    """Less work would show one key what another one holds; and a file that the disk spoilt is whole again."""
    store, synced = DirectoryBlobs(tmp_path), []
    monkeypatch.setattr(blobs, "sync_folder", synced.append)
    sha256 = asyncio.run(put(store, b"a model"))
    place = store._path(sha256)
    place.chmod(0o600)
    place.write_bytes(b"a mo")
    assert asyncio.run(put(store, b"a model")) == sha256
    assert place.read_bytes() == b"a model"
    assert synced.count(place.parent) == 2


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.mkdir()])
def test_only_regular_files_are_adopted(tmp_path, make):
    make(tmp_path / "result")
    with pytest.raises((ValueError, OSError)):
        asyncio.run(DirectoryBlobs(tmp_path).adopt(tmp_path / "result"))


def test_small_chunks_take_no_more_memory_than_large_ones(tmp_path):
    async def trickle() -> AsyncIterator[bytes]:
        for number in range(BLOCK // 4):
            yield (number % (1 << 16)).to_bytes(2)  # each an object of its own

    async def story() -> int:
        store = DirectoryBlobs(tmp_path)
        tracemalloc.start()
        try:
            async with store.receive(trickle(), PLENTY):
                return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert asyncio.run(story()) < 2 * BLOCK


@pytest.mark.parametrize("sha256", ["", "..", "A" * 64, "a" * 63, "../" * 21 + "a"])
def test_what_is_no_address_names_no_file(tmp_path, sha256):
    assert asyncio.run(DirectoryBlobs(tmp_path).size(sha256)) is None
