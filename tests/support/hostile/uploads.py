"""Everything that was made to harm a service, as uploads: each with what the service answers.

`ends` is the slug of a problem; or "verified" or "not verified: ", with what follows, of the report of a fold.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import socket
import tarfile
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from tests.folding.archive.test_refused import REFUSED
from tests.support.archives import ALONE, good, referring, zipped
from tests.support.hostile import models as hostile_models
from tests.support.hostile.files import HOSTILE, external, small, with_weight
from tests.support.service.server import model_bytes
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

MIB = 1 << 20
MODEL_TYPE, ZIP_TYPE = "application/octet-stream", "application/zip"
SEED = 20260101
FEW, MANY, MORE = 10_001, 250_001, 2_000_001  # one more than `folding.onnxfile.Limits` allows
# Of the rows that the reader alone is tested with, and of those of the archives.
READER = (
    "empty", "one byte", "text", "pickle", "no graph", "a tensor", "length beyond the end", "length without end",
    "inner length beyond", "10,000 levels", "10,000 levels of groups", "200 small levels", "billion laughs",
    "negative dim", "dims overflow", "10,000 dims", "short data", "long data", "no data", "two fields", "odd int4",
    "packed endless", "hidden tensor", "invalid name", "initializer twice", "produced twice", "undefined input",
    "undefined in a branch", "cycle", "cycle through a branch", "mutual recursion", "recursion in a branch",
    "function twice", "external without location", "external sparse", "external and inline",
)  # fmt: skip
ARCHIVE = (
    "nothing", "no model", "two models", "data before", "data after", "data before that is counted", "gap", "overlap",
    "unexpected", "missing", "link", "fifo", "encrypted", "twice", "case", "another local name", "another local size",
    "wrong checksum", "size too small", "size too large", "trailing data", "half a stream",
    "a bomb that says it is none", "no size", "wide records of two opinions", "wide records of many files", "split",
    "one entry too many",
)  # fmt: skip
LARGEST = 40 * MIB  # of an upload to the server of these tests
LONG = {"a constant burner", "a million operators in functions"}  # what takes minutes, wherever it does
IMPATIENT = 45.0  # seconds to verify what never ends: a busy machine needs some to begin
STALL = 20.0  # seconds, as this server has patience: more than a client that does its best is ever silent


@dataclass(frozen=True)
class Upload:
    """One of them; `raw` is a whole request instead of a body, of which this server's client would make a sound one."""

    group: str
    make: Callable[[], bytes]
    ends: str
    says: str = ""
    media: str = MODEL_TYPE
    params: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bool = False


def _read() -> Iterator[tuple[str, Upload]]:
    for name in READER:
        make, says = HOSTILE[name][:2]
        ends = "too-large" if "limit " in says else "invalid-model"
        yield name, Upload("reader", make, ends, re.escape(says))


def _located(location: str, name: str = "w.bin") -> bytes:
    """An archive of a model whose data are at this location, and of a file with this name."""
    return zipped(("model.onnx", with_weight(external("q", {"location": location}))), (name, bytes(16)))


def _with_nodes(count: int, *attributes: int) -> bytes:
    model = small()
    one = helper.make_node("Relu", ["x"], [], **{f"a{number}": 0 for number in attributes})
    data = onnx.GraphProto(node=[one]).SerializeToString()
    return model.SerializeToString() + _graph(data * count)


def _graph(data: bytes) -> bytes:
    """A second graph, which protobuf merges into the first."""
    return bytes([0x3A]) + onnx.onnx_ml_pb2.AttributeProto(i=len(data)).SerializeToString()[1:] + data


def _initializers() -> bytes:
    return small().SerializeToString() + _graph(
        onnx.GraphProto(initializer=[onnx.TensorProto()]).SerializeToString() * MANY
    )


def _functions() -> bytes:
    return small().SerializeToString() + b"".join(
        onnx.ModelProto(functions=[onnx.FunctionProto(name=f"f{i}")]).SerializeToString() for i in range(FEW)
    )


def _aliases() -> bytes:
    """An archive of 300 tensors that are the same GiB of zeros: a small upload of 300 GiB."""
    tensors = []
    for number in range(300):
        tensor = external(f"q{number}", {"location": "w.bin"}, dims=[1 << 28])
        tensors.append(tensor)
    return zipped(("model.onnx", with_weight(*tensors)), ("w.bin", bytes(MIB)), method=zipfile.ZIP_DEFLATED)


def _tar() -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../../etc/passwd"))
        return buffer.getvalue()


def _pickle() -> bytes:
    """What torch.save writes: a zip with a pickle, which here would run a command."""
    return zipped(("archive/data.pkl", b"cos\nsystem\n(S'touch /tmp/owned'\ntR."), ("archive/version", b"3\n"))


def _bomb(size: int, name: str = "w.bin") -> bytes:
    data = referring("w.bin", nbytes=size)
    return zipped(("model.onnx", data), (name, bytes(size)), method=zipfile.ZIP_DEFLATED)


def _many(count: int) -> bytes:
    return zipped(("model.onnx", ALONE), *((f"{number}.bin", b"") for number in range(count - 1)))


def _request(body: bytes, *, length: object = None, head: str = "", ends: str = "\r\n\r\n") -> bytes:
    length = len(body) if length is None else length
    lines = ["POST /v1/fold HTTP/1.1", "Host: localhost", "Connection: close"]
    if length != "":
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, *filter(None, [head])]).encode() + ends.encode() + body


def _patience(name: str, ends: str) -> dict[str, float]:
    return {"verify_timeout": IMPATIENT} if "still running" in ends or name in LONG else {}


MODELS = {
    "only zeros": Upload("reader", lambda: bytes(20 * MIB), "invalid-model", "number 0"),
    "fields without end": Upload(
        "reader", lambda: b"\x0a\x00" * 10 * MIB, "too-large|timed-out", "limit fields|not done"
    ),
    "random bytes": Upload("reader", lambda: random.Random(SEED).randbytes(MIB), "invalid-model"),
    "random bytes after a sound head": Upload(
        "reader", lambda: model_bytes()[:200] + random.Random(SEED).randbytes(MIB), "invalid-model"
    ),
    "truncated": Upload("reader", lambda: model_bytes()[:-20], "invalid-model"),
    "a graph alone": Upload("reader", small().graph.SerializeToString, "invalid-model"),
    "a function alone": Upload(
        "reader", lambda: onnx.FunctionProto(name="f", input=["x"]).SerializeToString(), "invalid-model"
    ),
    "250,001 nodes": Upload("reader", lambda: _with_nodes(MANY), "too-large", "limit nodes"),
    "250,001 initializers": Upload("reader", _initializers, "too-large", "limit initializers"),
    "2,000,001 attributes": Upload(
        "reader", lambda: _with_nodes(MORE // 20 + 1, *range(20)), "too-large", "limit (attributes|fields)"
    ),
    "10,001 functions": Upload("reader", _functions, "too-large", "limit functions"),
    "a name of 30 MiB": Upload(
        "reader", lambda: with_weight(onnx.TensorProto(name="n" * 30 * MIB)), "invalid-model", "no data type"
    ),
    "4,300 digits": Upload(
        "reader", lambda: with_weight(external("q", {"location": "w.bin", "offset": "9" * 4300})), "invalid-model"
    ),
}
for _location in (
    "/etc/passwd",
    "../../ledger.sqlite",
    "/proc/self/environ",
    "C:\\w.bin",
    "request.json",
    "model.onnx",
):
    MODELS[f"data in {_location}"] = Upload(
        "reader",
        lambda location=_location: with_weight(external("q", {"location": location})),  # type: ignore[misc]
        "invalid-model",
        "external data",
    )
ARCHIVES = {
    "1,001 files": Upload("archive", lambda: _many(1001), "unsafe-archive", "limit entries", ZIP_TYPE),
    "a bomb of 256 MiB": Upload("archive", lambda: _bomb(256 * MIB), "unsafe-archive", "limit ratio", ZIP_TYPE),
    "a bomb in a bomb": Upload(
        "archive",
        lambda: zipped(("model.onnx", ALONE), ("w.zip", _bomb(32 * MIB))),
        "unsafe-archive",
        "refers",
        ZIP_TYPE,
    ),
    "an archive as the model": Upload(
        "archive", lambda: zipped(("model.onnx", good())), "invalid-model", "is a zip archive", ZIP_TYPE
    ),
    "300 GiB of one file": Upload("archive", _aliases, "invalid-model", "bytes", ZIP_TYPE),
    "a PyTorch file": Upload("archive", _pickle, "unsafe-archive", "folder", ZIP_TYPE),
    "a PyTorch file as a model": Upload("archive", _pickle, "unsafe-archive", "folder"),
    "a tar": Upload("archive", _tar, "unsafe-archive", "no zip", ZIP_TYPE),
    "a tar as a model": Upload("archive", _tar, "invalid-model", "corrupt"),
    "a gzip": Upload("archive", lambda: gzip.compress(good()), "unsafe-archive", "no zip", ZIP_TYPE),
    "a gzip as a model": Upload("archive", lambda: gzip.compress(model_bytes()), "invalid-model", "gzip"),
    "a zip with half a directory": Upload("archive", lambda: good()[:-30], "unsafe-archive", "", ZIP_TYPE),
    "the whole path": Upload("archive", lambda: _located("../w.bin", "../w.bin"), "unsafe-archive", "folder", ZIP_TYPE),
    "an absolute path": Upload("archive", lambda: _located("/w.bin", "/w.bin"), "unsafe-archive", "folder", ZIP_TYPE),
    "a location that leaves": Upload("archive", lambda: _located("../w.bin"), "invalid-model", "leaves", ZIP_TYPE),
    "a location elsewhere": Upload("archive", lambda: _located("x.bin"), "unsafe-archive", "not in", ZIP_TYPE),
}
REQUESTS = {
    "more than it takes": Upload("request", lambda: bytes(LARGEST + 1), "too-large", "at most"),
    "the wrong digest": Upload(
        "request", model_bytes, "digest-mismatch", headers={"Repr-Digest": f"sha-256=:{'A' * 43}=:"}
    ),
    "a short digest": Upload("request", model_bytes, "bad-request", headers={"Repr-Digest": "sha-256=:eA==:"}),
    "a page": Upload("request", model_bytes, "unsupported-media-type", media="text/html"),
    "packed on the way": Upload("request", model_bytes, "unsupported-media-type", headers={"Content-Encoding": "gzip"}),
    "a path as a name": Upload("request", model_bytes, "invalid-option", params={"name": "../../etc/passwd"}),
    "an option nobody knows": Upload("request", model_bytes, "invalid-option", params={"inputs": "/etc/passwd"}),
    "patterns without end": Upload("request", model_bytes, "invalid-option", params={"keep": ["*" * 501]}),
    "a time without end": Upload("request", model_bytes, "invalid-option", params={"verify_timeout": "inf"}),
    "another host": Upload("request", model_bytes, "forbidden", headers={"Host": "evil.example"}),
    "fewer bytes than it says": Upload(
        "request", lambda: _request(b"short", length=90_000), "upload-timeout", raw=True
    ),
    "a byte now and then": Upload(
        "request", lambda: _request(b"", head="Transfer-Encoding: chunked", length=""), "upload-timeout", raw=True
    ),
    "a length below zero": Upload("request", lambda: _request(b"x", length=-1), "400", raw=True),
    "a length that is no number": Upload("request", lambda: _request(b"x", length="1e9"), "400", raw=True),
    "two lengths": Upload("request", lambda: _request(b"x", head="Content-Length: 9"), "400", raw=True),
    "a length and chunks": Upload(
        "request",
        lambda: _request(b"0\r\n\r\nGET /", head="Transfer-Encoding: chunked"),
        "bad-request",
        "twice",
        raw=True,
    ),
    "a length of 2 ** 70": Upload("request", lambda: _request(b"x", length=2**70), "400|413", raw=True),
    "chunks of no size": Upload(
        "request", lambda: _request(b"zz\r\nx", head="Transfer-Encoding: chunked", length=""), "400", raw=True
    ),
    "a header of a MiB": Upload("request", lambda: _request(b"x", head=f"X: {'x' * MIB}"), "400|431|0", raw=True),
}
TESTED_ALONE: dict[str, Upload] = {
    **dict(_read()),
    **{
        name: Upload("archive", lambda data=data: data, "unsafe-archive", "", ZIP_TYPE)  # type: ignore[misc]
        for name, (data, _) in ((f"zip: {name}", REFUSED[name]) for name in ARCHIVE)
    },
}
UPLOADS: dict[str, Upload] = {
    **TESTED_ALONE,
    **MODELS,
    **ARCHIVES,
    **{
        name: Upload("model", make, ends, params=_patience(name, ends))
        for name, (make, ends) in hostile_models.ROWS.items()
    },
    **REQUESTS,
}


def send(client: httpx.Client, name: str, upload: Upload) -> tuple[int, str, str]:
    """Status, how it ended, and the sentence about it."""
    if upload.raw:
        return _outcome(*_sent_raw(client, upload.make()))
    params = {"name": f"{name}.onnx", "verify_timeout": "20", **upload.params}  # or endless ones take 45 s each
    headers = {"Content-Type": upload.media, "Accept": "application/json", **upload.headers}
    answer = client.post("/v1/fold", content=upload.make(), params=params, headers=headers)
    return _outcome(answer.status_code, answer.content)


def _sent_raw(client: httpx.Client, data: bytes) -> tuple[int, bytes]:
    """The answer; status 0 where the server closed the connection instead."""
    answer = b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection((client.base_url.host, client.base_url.port), PATIENCE) as connection,
    ):
        connection.sendall(data)
        while block := connection.recv(1 << 16):
            answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def _outcome(status: int, body: bytes) -> tuple[int, str, str]:
    try:
        document = json.loads(body)
    except ValueError:
        return status, str(status), " ".join(body.decode(errors="replace").split())
    if "type" in document:
        return status, document["type"].rpartition("/")[2], document["detail"]
    if "verification" not in document:
        return status, document.get("status", ""), ""
    verification = document["verification"]
    ends = verification["status"]
    return status, f"{ends}: {verification['reason']}" if ends == "not verified" else ends, verification["reason"]
