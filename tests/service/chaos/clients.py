"""Clients that do not give up: each model is sent until it is accepted, each job followed to its end, and every result
fetched through every server, more than once.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.service.chaos.models import Model
    from tests.service.chaos.record import Record

CLIENTS = 2
LEAST, MOST = 8, 40  # models of a client: it goes on while the fault lasts
QUIET = 0.3  # seconds between two requests of a client, at most
LATER = 0.2  # seconds until a request that was refused is sent again
WAIT = 5.0  # seconds of a long poll
REFUSED = {408: False, 429: True, 503: True, 507: False}  # for now; whether the service promises Retry-After
ASKED = {"internal", "insufficient-storage"}  # the problem of a job says to send it again
FOLD, ASYNC = "/v1/fold?verify=false", {"Prefer": "respond-async"}
TIMES = 2  # that each server is asked for a result
MOST_AGAIN = 20


class Clients:
    """What clients send, ask and get. `urls` are those of the servers that run now."""

    def __init__(
        self,
        urls: Callable[[], list[str]],
        record: Record,
        make: Callable[[random.Random, str], Model],
        *,
        may_ask_again: bool,
    ) -> None:
        self._urls, self._record, self._make, self._may_ask_again = urls, record, make, may_ask_again
        self.jobs: dict[str, Model] = {}
        self.surprises: list[str] = []
        self._over, self._lock = threading.Event(), threading.Lock()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._random = random.Random(record.seed)
        self._http = httpx.Client(timeout=PATIENCE)

    def start(self) -> None:
        """Begin to send."""
        self._sending = [self._pool.submit(self._client, number) for number in range(CLIENTS)]

    def end(self) -> None:
        """Send what is left to send."""
        self._over.set()
        for one in self._sending:
            one.result()

    def close(self) -> None:
        """Let go of connections."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    def send(self, model: Model, http: httpx.Client | None = None) -> str:
        """The id of the job of a model, when it is accepted."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            answer = self._asked(http or self._http, "POST", FOLD, content=model.content, headers=ASYNC)
            if answer is not None and answer.status_code == 202:
                job: str = answer.json()["id"]
                with self._lock:
                    self.jobs[job] = model
                return job
            time.sleep(LATER)
        raise AssertionError("a model was never accepted")

    def follow(self) -> None:
        """Follow every job to its end, and count how it ended."""
        for job, model in list(self.jobs.items()):
            self._follow(job, model)
        self._record.accepted = len(self.jobs)

    def compare(self) -> None:
        """Fetch every result through every server, more than once."""
        for job, model in self.jobs.items():
            if not model.problem:
                for url in self._urls() * TIMES:
                    self._compare(url, job, model)

    def settle(self) -> None:
        """Wait until every job that was accepted until now has ended."""
        for job in list(self.jobs):
            self._end(job)

    def count_refused(self) -> None:
        """Count a request that was refused for now."""
        with self._lock:
            self._record.refused += 1

    def _client(self, number: int) -> None:
        rng = random.Random(f"{self._record.seed} {number}")
        with httpx.Client(timeout=PATIENCE) as http:
            for count in range(MOST):
                if count >= LEAST and self._over.is_set():
                    return
                self.send(self._make(rng, f"{self._record.seed} {number} {count}"), http)
                time.sleep(rng.uniform(0, QUIET))
                self._look(rng, http)

    def _look(self, rng: random.Random, http: httpx.Client) -> None:
        """Fetch the result of any job, which may have ended, while all this happens."""
        with self._lock:
            job, model = rng.choice(list(self.jobs.items()))
        answer = self._asked(http, "GET", f"/v1/jobs/{job}/result")
        if answer is not None and answer.status_code == 200:
            self._check(job, model, answer)

    def _asked(self, http: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response | None:
        """The answer of a server, None if it has none; what is refused now is counted."""
        urls = self._urls()
        try:
            answer = http.request(method, self._random.choice(urls) + path, **given) if urls else None
        except httpx.TransportError:  # it was killed meanwhile, or has broken off what is not as it should be
            return None
        if answer is not None and answer.status_code in REFUSED:
            self.count_refused()
            if REFUSED[answer.status_code] and not int(answer.headers.get("Retry-After", "0")) > 0:
                self._surprise(f"{method} {path}: {answer.status_code} without Retry-After")
        elif answer is not None and not self._is_expected(answer):
            self._surprise(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def _is_expected(self, answer: httpx.Response) -> bool:
        """Whether it may be the answer to these clients: a job that has not ended or has failed has no result."""
        if answer.status_code in {500, 404}:
            return self._may_ask_again
        has_none = answer.status_code in {409, 422} and answer.url.path.endswith("/result")
        return has_none or answer.status_code in {200, 202}

    def _surprise(self, text: str) -> None:
        with self._lock:
            self.surprises.append(text)

    def _state(self, job: str, **params: Any) -> dict[str, Any]:
        """What a server says of a job, nothing if it cannot now; `lost` if there is none."""
        answer = self._asked(self._http, "GET", f"/v1/jobs/{job}", params=params)
        if answer is None or answer.status_code in REFUSED or answer.status_code == 500:
            time.sleep(LATER)
            return {}
        return {"status": "lost"} if answer.status_code == 404 else dict(answer.json())

    def _end(self, job: str) -> dict[str, Any]:
        """The job when it has ended; lost if there is none, or if it never ends."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            state = self._state(job, wait=WAIT, until="done")
            if state.get("status") not in {None, "queued", "running"}:
                return state
        return {"status": "lost"}

    def _follow(self, job: str, model: Model) -> None:
        for _ in range(MOST_AGAIN):
            state = self._end(job)
            slug = state["problem"]["type"].rpartition("/")[2] if state["status"] == "failed" else ""
            is_asked = state["status"] == "lost" or (slug in ASKED and slug != model.problem)
            if not (self._may_ask_again and is_asked):
                break
            self._again(model)
        if state["status"] == "lost":
            self._record.lost += 1
        elif slug != model.problem:
            self._record.condemned += 1
            self._surprise(f"condemned: {state}")
        elif slug:
            self._record.failed += 1
        else:
            self._record.done += 1
            if state["result"]["sha256"] != hashlib.sha256(model.result).hexdigest():
                self._surprise(f"the digest of another result: {state}")

    def _compare(self, url: str, job: str, model: Model) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                answer = self._http.get(f"{url}/v1/jobs/{job}/result")
            except httpx.TransportError:
                continue
            if self._may_ask_again and answer.status_code in {404, 500}:
                self._again(model)
                self._end(job)
            elif self._may_ask_again and answer.status_code == 409:  # what was lost is folded again for another request
                self._end(job)
            elif answer.status_code not in REFUSED:
                self._check(job, model, answer)
                return
            time.sleep(LATER)
        self._record.lost += 1

    def _again(self, model: Model) -> None:
        self._record.again += 1
        self.send(model)

    def _check(self, job: str, model: Model, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self._record.lost += 1
            self._surprise(f"the result of {job}: {answer.status_code} {answer.text[:300]}")
        elif answer.content != model.result:
            with self._lock:
                self._record.different += 1
