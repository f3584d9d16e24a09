"""A client of the service: fold and inspect models there, with the interface of the library.

    with Client("http://127.0.0.1:8000") as client:
        report = client.fold("model.onnx", "folded.onnx", Options(freeze_initializers=True))
        print(report["bn_before"], "->", report["bn_after"], report["verification"]["status"])

Failed requests are repeated where that is safe: requests carry an idempotency key, large uploads and downloads go on
where they ended. The result is checked against its digest and appears complete or not at all. Every refusal is a
`ServiceError` with the slug and the sentence of the service's problem; docs/service.md lists the slugs.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.client import pieces
from folding.client.files import Download, is_same, place_for, put, upload, workspace
from folding.client.pieces import sent_in_pieces
from folding.client.requests import JOB_HEADER, JOBS, Requests, Retries, from_problem, unexpected
from folding.delivery import placed
from folding.errors import OptionError, ServiceError
from folding.options import Options, option_fields

if TYPE_CHECKING:
    import os
    from types import TracebackType
    from typing import Self

    from folding.client.files import Progress, Upload
    from folding.client.requests import Json

__all__ = ["Client", "Retries", "ServiceError"]

DEFAULTS = Options()
RETRIES = Retries()
WAIT_SECONDS = 25  # for one long poll; the service allows 30, and proxies often allow no more
LEAST_SECONDS_BETWEEN_POLLS = 0.2  # in case a service answers long polls immediately
CANCEL_SECONDS = 3.0  # how long an interrupted client tries to cancel its job
NAME_BYTES = 120  # of a model's name; the service accepts no longer name
ENDED = frozenset({"done", "failed", "cancelled"})
_VERIFICATION = ("verify", "verify_timeout")  # options that do not apply to a plan
_ID = re.compile("[0-9a-f]{1,128}")
_SHA256 = re.compile("[0-9a-f]{64}")


class Client:
    """A service at `url`, with an API key if it requires one; a context manager that closes its connections.

    Raises:
        OptionError: the address or the key is malformed.
    """

    def __init__(self, url: str, key: str | None = None, *, retries: Retries = RETRIES) -> None:
        self._requests = Requests(url, key, retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    def fold(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        options: Options = DEFAULTS,
        progress: Progress | None = None,
    ) -> Json:
        """Fold the model file `source` into `target`, which may be `source`; the report is that of `Report.as_dict`.

        `progress(stage, done, total)` is called for "uploading" and "downloading" in bytes and, between them, for the
        stages of the job. An interruption (KeyboardInterrupt) cancels the job. After any failure `target` is unchanged.

        Raises:
            ServiceError: the service's problem ("verification-failed" and "nothing-to-fold" with a `report`), or
                "unreachable".
            ModelError: `source` or the result is missing, corrupt or unsafe.
            ArchiveError: the external data of `source` cannot be sent, for example from a sub-folder.
            OptionError: `options.inputs` is given; it names a file of this machine.
            FoldingError: `target` cannot be written.
        """
        path = Path(source)
        parameters = _parameters(options, path)
        with placed(target, source, options) as place:
            final = place_for(place.model, path)
            with upload(path) as sent:
                job = self._accepted(sent, parameters, progress)
            state = self._ended(job, progress)
            with workspace(final) as folder:
                model = self._download(state, progress).into(folder)
                report = self._report(job)
                changed = report.get("changed") is True or (options.has_card and not is_same(model, path))
                written = put(model, final, changed=changed, beside=place.beside)
            place.finish()
            recipe = {"recipe": list(place.recipe)} if place.recipe else {}
            delivered = {"digests": [asdict(one) for one in place.digests], "bytes_after": written} | recipe
        return report | {"source": str(source), "target": place.shown} | delivered

    def inspect(self, source: str | os.PathLike[str], options: Options = DEFAULTS) -> Json:
        """Return what `fold` would do with a model, and why not more, as `Report.as_dict` does; nothing is stored.

        Raises:
            As `fold`, except for errors of a target.
        """
        path = Path(source)
        parameters = [(name, value) for name, value in _parameters(options, path) if name not in _VERIFICATION]
        with upload(path) as sent:
            report, _ = self._send(sent, "/v1/inspect", parameters, {}, None)
        return report | {"source": str(source), "target": None}

    def job(self, job: str) -> Json:
        """Return the state of a job: its status, stage and progress, and its problem if it failed.

        Raises:
            ServiceError: "not-found", or another problem.
        """
        return self._requests.json("GET", _path(job))[0]

    def cancel(self, job: str) -> None:
        """Cancel a job; a job that has ended does not change.

        Raises:
            ServiceError: "not-found", or another problem.
        """
        self._requests.json("DELETE", _path(job))

    def _accepted(self, sent: Upload, parameters: list[tuple[str, str]], progress: Progress | None) -> str:
        """The id of the job that the service created for an upload."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid.uuid4())}
        try:
            sha256 = sent_in_pieces(self._requests, sent, progress) if sent.nbytes >= pieces.LARGE else None
            if sha256 is None:
                answer, received = self._send(sent, "/v1/fold", parameters, headers, progress)
            else:
                answer, received = self._requests.json(
                    "POST", f"/v1/blobs/{sha256}/fold", headers=headers, params=parameters
                )
        except ServiceError as error:
            raise self._reported(error, error.job) from None
        # The answer is the job, or its report if the work is already done.
        return _known(received.get(JOB_HEADER) or answer.get("id"), _ID, "names no job")

    def _send(
        self,
        sent: Upload,
        path: str,
        parameters: list[tuple[str, str]],
        headers: dict[str, str],
        progress: Progress | None,
    ) -> tuple[Json, Any]:
        return self._requests.json(
            "POST",
            path,
            body=lambda: sent.observed(progress),
            headers=sent.headers() | headers,
            params=parameters,
        )

    def _ended(self, job: str, progress: Progress | None) -> Json:
        """Wait until a job is done and return its state; cancel the job if the wait is interrupted."""
        try:
            state = self._waited(job, progress)
        except BaseException:
            with suppress(ServiceError):
                once = Retries(attempts=1)
                self._requests.json("DELETE", _path(job), retries=once, timeout=CANCEL_SECONDS)
            raise
        if state["status"] == "done":
            return state
        problem = state.get("problem")
        error = from_problem(problem if isinstance(problem, dict) else {"type": state["status"]})
        raise self._reported(error, job if state.get("report") else None)

    def _waited(self, job: str, progress: Progress | None) -> Json:
        state: Json = {}
        known: dict[str, str] = {}  # the service then answers only when the state differs, so no change is missed
        while True:
            began = time.monotonic()
            answer, headers = self._requests.json(
                "GET", _path(job), params=[("wait", str(WAIT_SECONDS))], headers=known
            )
            if answer:
                state, known = answer, {"If-None-Match": tag} if (tag := headers.get("ETag")) else {}
            if state.get("status") in ENDED:
                return state
            _report_progress(state, progress)
            time.sleep(max(0.0, LEAST_SECONDS_BETWEEN_POLLS - (time.monotonic() - began)))

    def _download(self, state: Json, progress: Progress | None) -> Download:
        result = state.get("result")
        if not isinstance(result, dict) or not isinstance(result.get("bytes"), int):
            raise unexpected("calls a job done that has no result")
        sha256 = _known(result.get("sha256"), _SHA256, "gives no digest of the result")
        path = f"{_path(str(state.get('id')))}/result"
        return Download(self._requests, path, sha256, result["bytes"], progress)

    def _report(self, job: str) -> Json:
        return self._requests.json("GET", f"{_path(job)}/report")[0]

    def _reported(self, error: ServiceError, job: str | None) -> ServiceError:
        """The error with the report of its job, if the report exists and can be fetched."""
        if job is not None and _ID.fullmatch(job):
            with suppress(ServiceError):
                error.report = self._report(job)
        return error


def _path(job: str) -> str:
    if not _ID.fullmatch(job):
        raise OptionError(f"{job!r} is no id of a job; it has digits and the letters a to f")
    return f"{JOBS}{job}"


def _known(value: object, form: re.Pattern[str], otherwise: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise unexpected(otherwise)
    return value


def _parameters(options: Options, source: Path) -> list[tuple[str, str]]:
    """The options that differ from their defaults, and the model's name, as query parameters."""
    if options.inputs is not None:
        raise OptionError("inputs: a service does not see the files of this machine; fold here, or without it")
    options = replace(options, card=options.has_card, digest=False, triton=None)  # what is about files is done here
    parameters = []
    for name, declared in option_fields().items():
        value = getattr(options, name)
        if value == declared["default"]:
            continue
        items = value if isinstance(value, tuple) else (value,)
        parameters += [(name, str(item).lower() if isinstance(item, bool) else str(item)) for item in items]
    if source.name.isprintable() and "\\" not in source.name and len(source.name.encode()) <= NAME_BYTES:
        parameters.append(("name", source.name))
    return parameters


def _report_progress(job: Json, progress: Progress | None) -> None:
    """Report the progress of a job in the units of a local fold: writing in bytes, the rest in percent."""
    if progress is None:
        return
    done, stage, sent = job.get("progress"), job.get("stage"), job.get("input")
    if not isinstance(stage, str) or not isinstance(done, (int, float)):
        progress("waiting", 0, 1)
        return
    size = sent.get("bytes") if isinstance(sent, dict) else None
    total = size if stage == "writing" and isinstance(size, int) else 100
    progress(stage, int(done * total), total)
