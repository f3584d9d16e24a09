"""Every blob store does the same: a folder, one in memory-like files, and S3, also through a network that fails."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from service.blobs import Blob, BlobStore, DamagedError, DirectoryBlobs, StoreError, objects
from service.blobs.cache import Cache
from service.blobs.objects import PART, ObjectBlobs
from service.problems import Problem
from tests.service.blobs.test_folder import PLENTY, content, files, pieces, put

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service.store import Store

pytest_plugins = ["tests.support.service.cluster"]

MODEL = b"a model"
Change = Callable[[bytes], bytes | None]


def in_folder(folder: Path) -> Callable[[str, Change], None]:
    """How to change a blob that lies in a folder."""

    def change(sha256: str, change: Change) -> None:
        place = folder / "sha256" / sha256[:2] / sha256[2:]
        made = change(place.read_bytes())
        place.unlink()
        if made is not None:
            place.write_bytes(made)

    return change


@pytest.fixture(params=["folder", "file", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[BlobStore, Callable[[str, Change], None]]:
    """A store, and what changes a blob in it."""
    blobs = tmp_path / "blobs"
    if request.param == "folder":
        return DirectoryBlobs(blobs), in_folder(blobs)
    if request.param == "file":
        return ObjectBlobs(f"file://{blobs}", tmp_path / "here", cache_bytes=PLENTY), in_folder(blobs)
    store, url = s3(request)
    made = ObjectBlobs(url, tmp_path / "here", cache_bytes=PLENTY)
    return made, lambda sha256, change: store.change(url, sha256, change)


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ObjectBlobs, Store]:
    store, url = s3(request)
    return ObjectBlobs(url, tmp_path / "here", cache_bytes=PLENTY), store


def s3(request: pytest.FixtureRequest) -> tuple[Store, str]:
    store: Store = request.getfixturevalue("store")
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    request.addfinalizer(store.honest)
    return store, store.url()


def test_a_content_lies_under_its_address(opened, tmp_path):
    store, change = opened
    data = os.urandom(2 * PART + 5)  # more than one part

    async def story() -> None:
        sha256 = await put(store, data[:7], b"", data[7:])
        assert sha256 == hashlib.sha256(data).hexdigest() == await put(store, data)
        change(sha256, lambda kept: kept if kept == data else None)  # it has this content under this name
        assert list(store.stored()) == [Blob(sha256, len(data))]
        assert await store.size(sha256) == len(data)
        assert await content(store, sha256, 0, len(data)) == data
        assert await content(store, sha256, 3, PART + 4) == data[3 : PART + 4]
        await store.place(sha256, tmp_path / "linked", shared=True)
        await store.place(sha256, tmp_path / "copied", shared=False)
        store.delete(sha256)
        store.delete(sha256)
        assert await store.size(sha256) is None
        assert (tmp_path / "linked").read_bytes() == (tmp_path / "copied").read_bytes() == data
        with pytest.raises(FileNotFoundError):
            await content(store, sha256, 0, 1)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("spoil", "size", "content_"),
    [
        (lambda _: None, False, False),
        (lambda data: data[:-2], False, False),
        (lambda data: b"A" + data[1:], True, False),
        (lambda data: data, True, True),
    ],
    ids=["lost", "cut", "changed", "whole"],
)
def test_damage_is_seen(opened, tmp_path, spoil, size, content_):
    store, change = opened

    async def story() -> None:
        blob = Blob(await put(store, MODEL), len(MODEL))
        change(blob.sha256, spoil)
        assert await store.is_whole(blob, by_content=False) == size
        assert await store.is_whole(blob, by_content=True) == content_
        if size and not content_:
            with pytest.raises(DamagedError):
                await content(store, blob.sha256, 0, len(MODEL))
            assert await content(store, blob.sha256, 1, len(MODEL)) == MODEL[1:]
        await put(store, MODEL)  # whole again
        assert await store.is_whole(blob, by_content=True)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("chunks", "limit", "error"),
    [((b"x" * PART, ConnectionError()), PLENTY, ConnectionError), ((b"x" * PART, b"x"), PART, Problem)],
)
def test_an_upload_that_fails_leaves_nothing(opened, tmp_path, chunks, limit, error):
    store, _ = opened
    with pytest.raises(error):
        asyncio.run(put(store, *chunks, limit=limit))
    assert list(store.stored()) == []
    assert files(tmp_path) == []


def test_what_was_damaged_on_its_way_is_not_stored(opened, tmp_path):
    store, _ = opened
    if isinstance(store, DirectoryBlobs):
        return  # it takes the file itself

    async def story() -> None:
        for data in (MODEL, bytes(2 * PART)):
            async with store.receive(pieces(data), PLENTY) as draft:
                draft.path.write_bytes(b"X" + data[1:])
                with pytest.raises(DamagedError):
                    await store.commit(draft)
                draft.path.unlink()
                draft.path.symlink_to("/etc/passwd")
                with pytest.raises(OSError, match="symbolic"):
                    await store.commit(draft)
        assert list(store.stored()) == []

    asyncio.run(story())


def test_an_output_of_a_fold_is_adopted(opened, tmp_path):
    store, _ = opened

    async def story() -> None:
        (tmp_path / "result").write_bytes(b"folded")
        draft = await store.adopt(tmp_path / "result")
        await store.commit(draft)
        assert await content(store, draft.blob.sha256, 0, 6) == b"folded"

    asyncio.run(story())


def test_a_store_that_fails_half_of_its_calls_is_asked_again(remote, tmp_path):
    store, server = remote
    data = os.urandom(2 * PART)

    async def story() -> None:
        server.failing = 0.5
        sha256 = await put(store, data)
        assert await store.size(sha256) == len(data)
        await store.place(sha256, tmp_path / "placed", shared=False)
        assert (tmp_path / "placed").read_bytes() == data
        store.delete(sha256)
        assert await store.size(sha256) is None

    asyncio.run(story())


def test_a_store_that_fails_says_so_and_has_lost_nothing(remote, monkeypatch):
    """It is never taken for one that has no such blob."""
    store, server = remote
    monkeypatch.setattr(objects, "RETRIES", objects.RETRIES | {"max_retries": 0})
    url = f"s3://{server.BUCKET}/mine"

    async def story() -> None:
        sha256 = await put(store, MODEL)
        impatient = ObjectBlobs(url, store._spool.folder.parent / "impatient")
        server.failing = 1.0
        with pytest.raises(StoreError):
            await put(impatient, MODEL)
        for call in (
            impatient.size(sha256),
            content(impatient, sha256, 0, 1),
            impatient.is_whole(Blob(sha256, 7), by_content=False),
        ):
            with pytest.raises(StoreError):
                await call
        with pytest.raises(StoreError):
            impatient.delete(sha256)
        with pytest.raises(StoreError):
            list(impatient.stored())
        server.honest()
        assert await store.size(sha256) == len(MODEL)

    asyncio.run(story())


def test_a_store_that_does_not_answer_is_not_waited_for(remote, monkeypatch):
    store, server = remote
    monkeypatch.setattr(objects, "STALL_SECONDS", 0.2)

    async def story() -> None:
        sha256 = await put(store, MODEL)
        server.silent = True
        with pytest.raises(StoreError, match="does not answer"):
            await content(store, sha256, 0, len(MODEL))

    asyncio.run(story())


def test_a_blob_is_fetched_once(remote, tmp_path):
    store, server = remote

    async def story() -> None:
        sha256 = await put(store, MODEL)
        await asyncio.gather(*(store.place(sha256, tmp_path / f"{n}", shared=n % 2 == 0) for n in range(6)))
        assert {(tmp_path / f"{n}").read_bytes() for n in range(6)} == {MODEL}
        mine = f"{store.url.removeprefix('s3:/')}/"
        fetched = [path for method, path in server.requests if method == "GET" and path.startswith(mine)]
        assert len(fetched) == 1

    asyncio.run(story())


def test_the_cache_keeps_what_was_used_last(tmp_path):
    async def story() -> None:
        cache = Cache(tmp_path / "cache", 2 * len(MODEL))
        for number, name in enumerate(["a", "b", "a", "c"]):
            await cache.place(name, tmp_path / f"{number}", lambda: pieces(MODEL), shared=True)
            os.utime(tmp_path / "cache" / name, (number, number))
        cache._shrink()
        assert [name for name in "abc" if cache.holds(name)] == ["a", "c"]

    asyncio.run(story())


def test_what_is_fetched_in_part_is_not_kept(tmp_path):
    async def story() -> None:
        cache = Cache(tmp_path / "cache", PLENTY)
        with pytest.raises(ConnectionError):
            await cache.place("a", tmp_path / "placed", lambda: pieces(MODEL, ConnectionError()), shared=True)
        assert files(tmp_path) == []

    asyncio.run(story())


def test_a_damaged_copy_is_fetched_again(remote, tmp_path):
    store, _ = remote

    async def story() -> None:
        sha256 = await put(store, MODEL)
        await store.place(sha256, tmp_path / "first", shared=False)
        kept = next((tmp_path / "here" / "cache").iterdir())
        kept.chmod(0o600)
        kept.write_bytes(b"A model")
        assert await store.is_whole(Blob(sha256, len(MODEL)), by_content=True)
        await store.place(sha256, tmp_path / "second", shared=False)
        assert (tmp_path / "second").read_bytes() == MODEL

    asyncio.run(story())


@pytest.mark.parametrize("sha256", ["", "..", "A" * 64, "a" * 63, "../" * 21 + "a"])
def test_what_is_no_address_names_no_object(opened, sha256):
    assert asyncio.run(opened[0].size(sha256)) is None
