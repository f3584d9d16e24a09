"""The files of a remote fold: the upload of the model and the download of the result, complete or not at all."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from folding import onnxfile
from folding.archive import packed, read_archive
from folding.client.requests import Attempts, PassingError, unexpected
from folding.errors import FoldingError, ServiceError
from folding.onnxfile import DATA_SUFFIX, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    import httpx

    from folding.client.requests import Requests
    from folding.onnxfile import Beside

    Progress = Callable[[str, int, int], None]  # stage, done, total

MODEL_TYPE, ZIP_TYPE = "application/octet-stream", "application/zip"
BLOCK = 1 << 20
UPLOADING, DOWNLOADING = "uploading", "downloading"
_NAME_BYTES = 8  # random bytes in a folder's name, so that two runs never collide
_NAME_SHOWN = 100  # characters of the target's name in the folder's name
_OWNER_ONLY = 0o700
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_DOWNLOADS = 3  # attempts, while the result does not match its digest


@dataclass(frozen=True)
class Upload:
    """The body that is sent for a model: the file itself, or a zip of it and its external data."""

    media_type: str
    nbytes: int
    blocks: Callable[[], Iterator[bytes]]

    def sha256(self) -> str:
        """The SHA-256 of the body, hex. Reads all of it."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()

    def headers(self) -> dict[str, str]:
        """The headers that describe the body; its digest lets the service detect damage by the network."""
        encoded = base64.b64encode(bytes.fromhex(self.sha256())).decode()
        return {
            "Content-Type": self.media_type,
            "Content-Length": str(self.nbytes),
            "Repr-Digest": f"sha-256=:{encoded}:",
        }

    def observed(self, progress: Progress | None) -> Iterator[bytes]:
        """The bytes; each block is reported to `progress`."""
        done = 0
        for block in self.blocks():
            if progress is not None:
                progress(UPLOADING, done, self.nbytes)
            yield block
            done += len(block)
        if progress is not None:
            progress(UPLOADING, self.nbytes, self.nbytes)


@contextmanager
def upload(source: Path) -> Iterator[Upload]:
    """The upload of a model, valid while the context is open.

    Raises:
        ModelError: it is missing, corrupt or unsafe, or changes during the upload.
        ArchiveError: it has external data that cannot be sent as one zip.
    """
    if onnxfile.external_locations(source):
        with packed(source) as archive:
            yield Upload(ZIP_TYPE, archive.nbytes, archive.blocks)
        return
    with onnxfile.read(source) as file:
        size = file.nbytes

        def blocks() -> Iterator[bytes]:
            for start in range(0, size, BLOCK):
                block = bytearray(min(BLOCK, size - start))
                file.source.read_into(memoryview(block), start)
                yield bytes(block)

        yield Upload(MODEL_TYPE, size, blocks)


def place_for(target: Path, source: Path) -> Path:
    """Return the path of a result, checked before any work, so that the result can be written afterwards.

    Raises:
        FoldingError: the folder does not exist, or the target is no file or belongs to the source model.
    """
    place = resolve(target)
    if place.exists() and place.samefile(source):
        return place
    needed = [source.parent / location for location in onnxfile.external_locations(source)]
    for file in (place, place.with_name(place.name + DATA_SUFFIX)):
        if file.exists() and any(file.samefile(other) for other in (source, *needed) if other.exists()):
            raise FoldingError(f"{file} belongs to the source model and would be overwritten; choose another target")
    return place


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A hidden folder beside the target; it is always removed at the end."""
    folder = place.with_name(f".{place.name[:_NAME_SHOWN]}.{secrets.token_hex(_NAME_BYTES)}")
    try:
        folder.mkdir(mode=_OWNER_ONLY)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_same(result: Path, source: Path) -> bool:
    """Whether a result has the bytes of its source."""
    with onnxfile.read(result) as one, onnxfile.read(source) as other:
        return [*onnxfile.digests(one).values()] == [*onnxfile.digests(other).values()]


def put(model: Path, place: Path, *, changed: bool, beside: Beside | None = None) -> int:
    """Move a result into place, its data file named as by a local fold; return the total bytes. `beside` comes with it.

    Raises:
        FoldingError: the result is no model, or cannot be written to `place`.
    """
    with onnxfile.read(model) as file:
        return (onnxfile.write if changed else onnxfile.copy)(file, place, beside=beside)


class Download:
    """The download of a job's result into a folder: resumed after a broken connection, checked against its digest."""

    def __init__(self, requests: Requests, path: str, sha256: str, nbytes: int, progress: Progress | None) -> None:
        self._requests, self._path, self._progress = requests, path, progress
        self._sha256, self._nbytes, self._media_type = sha256, nbytes, ""
        self._restart()

    def into(self, folder: Path) -> Path:
        """Download into `folder`; return the path of the complete model file, with its external data beside it.

        Raises:
            ServiceError: "unreachable", "digest-mismatch", or the problem that the service reported.
            ArchiveError: the result is an unsafe zip.
        """
        path = folder / "result"
        for _ in range(_DOWNLOADS):
            if self._fetch(path):
                break
        else:
            detail = (
                f"the result does not have the digest that the service gives, after {_DOWNLOADS} downloads; try later"
            )
            raise ServiceError("digest-mismatch", "What arrived is not what was sent", detail)
        if self._media_type != ZIP_TYPE:
            return path
        (folder / "model").mkdir()
        return read_archive(path, folder / "model")

    def _fetch(self, path: Path) -> bool:
        """Download once, in as many pieces as needed; return whether the digests match."""
        attempts = Attempts(self._requests.retries)
        self._restart()
        with path.open("wb") as file:
            while file.tell() < self._nbytes:
                try:
                    with self._requests.once("GET", self._path, headers=self._headers(file.tell())) as response:
                        self._append(response, file, attempts)
                except PassingError as failure:
                    attempts.failed(failure)
        return self._expected == {self._digest.hexdigest()}

    def _restart(self) -> None:
        self._digest, self._expected, self._tag = hashlib.sha256(), {self._sha256}, ""

    def _headers(self, at: int) -> dict[str, str]:
        """Request the remaining bytes only if the file on the service is still the same."""
        return {"Range": f"bytes={at}-", "If-Range": self._tag} if at and self._tag else {}

    def _append(self, response: httpx.Response, file: BinaryIO, attempts: Attempts) -> None:
        if _begins_at(response) != file.tell():
            file.seek(0)
            file.truncate()
            self._restart()
        self._tag = response.headers.get("ETag", "")
        self._media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        self._expected |= repr_digest(response)
        for block in response.iter_raw():  # unbuffered: a broken connection loses what httpx collects for larger blocks
            file.write(block)
            self._digest.update(block)
            attempts.progressed()
            if self._progress is not None:
                self._progress(DOWNLOADING, file.tell(), self._nbytes)
            if file.tell() > self._nbytes:
                return  # the digest check decides
        if file.tell() < self._nbytes:
            raise PassingError(unexpected(f"ends after {file.tell():,} of {self._nbytes:,} bytes"))


def repr_digest(response: httpx.Response) -> set[str]:
    """The SHA-256 of the whole file from an answer's Repr-Digest (RFC 9530), in hexadecimal; empty if it has none."""
    found = _SHA256.search(response.headers.get("Repr-Digest", ""))
    if found is None:
        return set()
    with suppress(binascii.Error):
        return {base64.b64decode(found[1], validate=True).hex()}
    raise unexpected("has a Repr-Digest that cannot be read")


def _begins_at(response: httpx.Response) -> int:
    """The position in the file at which an answer's body begins."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        raise unexpected("is a part of the result, and does not say which")
    return int(found[1])
