"""What a key has: its jobs, its usage, and a deletion that leaves nothing; waiting for the end; applied preferences."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from service.ledger.records import Quota
from tests.service.http.test_http import make_key, slug
from tests.support.service.server import Running, ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server(tmp_path) -> Iterator[Running]:
    with Running(tmp_path / "data", require_keys=True, wait_seconds=600) as running:
        yield running


def files(server) -> list[str]:
    return [path.name for path in (server.settings.data / "blobs").rglob("*") if path.is_file()]


def fold(server, seed, headers):
    answer = server.client.post("/v1/fold", content=model_bytes(seed), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["Bnfold-Job"]


def test_the_jobs_of_a_key_are_listed_newest_first_a_page_at_a_time(server):
    mine, other = make_key(server), make_key(server)
    made = [fold(server, seed, mine) for seed in range(5)]
    fold(server, 9, other)
    listed, address = [], "/v1/jobs?limit=2"
    pages = 0
    while address:
        page = server.client.get(address, headers=mine).json()
        listed += [job["id"] for job in page["jobs"]]
        address, pages = page["next"], pages + 1
    assert (listed, pages) == (made[::-1], 3)
    assert server.client.get("/v1/jobs", headers=mine).json()["next"] is None
    assert page["jobs"][0] == server.client.get(f"/v1/jobs/{made[0]}", headers=mine).json()


@pytest.mark.parametrize("before", ["x", f"1e~{'a' * 64}", f"1.0~{'A' * 64}"])
def test_a_place_that_is_none_is_refused(server, before):
    answer = server.client.get("/v1/jobs", params={"before": before}, headers=make_key(server))
    assert slug(answer) == "invalid-option"


def test_the_usage_of_a_key_is_what_it_has(server):
    headers = make_key(server, quota=Quota(rate="100/minute", bytes=10**9))
    empty = server.client.get("/v1/usage", headers=headers).json()
    assert empty == {
        "blobs": 0,
        "bytes": 0,
        "jobs": {},
        "webhooks": {},
        "quota": {"rate": "100/minute", "open_jobs": None, "bytes": 10**9},
    }
    fold(server, 1, headers)
    usage = server.client.get("/v1/usage", headers=headers).json()
    assert (usage["blobs"], usage["jobs"]) == (4, {"done": 1})  # the input, the result, the report and its page
    assert usage["bytes"] > len(model_bytes(1))


def test_a_list_and_a_usage_need_the_right_to_read(server):
    for path in ("/v1/jobs", "/v1/usage"):
        assert slug(server.client.get(path)) == "unauthorized"
        assert slug(server.client.get(path, headers=make_key(server, "metrics"))) == "forbidden"


def test_an_erased_job_leaves_nothing(server):
    headers = make_key(server)
    job = fold(server, 1, headers)
    assert len(files(server)) == 4
    assert server.client.delete(f"/v1/jobs/{job}?erase=true", headers=headers).status_code == 204
    assert files(server) == []
    assert slug(server.client.get(f"/v1/jobs/{job}", headers=headers)) == "not-found"
    usage = server.client.get("/v1/usage", headers=headers).json()
    assert (usage["blobs"], usage["bytes"], usage["jobs"], usage["webhooks"]) == (0, 0, {}, {})


def test_what_another_job_or_another_key_needs_stays(server):
    mine, other = make_key(server), make_key(server)
    job = fold(server, 1, mine)
    fold(server, 1, other)
    before = len(files(server))
    server.client.delete(f"/v1/jobs/{job}?erase=true", headers=mine)
    assert len(files(server)) >= before - 2  # the reports say when they were made, and may differ
    assert server.client.get("/v1/usage", headers=other).json()["blobs"] == 4
    first = fold(server, 1, mine)
    second = server.client.post("/v1/fold?leftover=affine", content=model_bytes(1), headers=mine).headers["Bnfold-Job"]
    server.client.delete(f"/v1/jobs/{first}?erase=true", headers=mine)
    assert server.client.get(f"/v1/jobs/{second}/result", headers=mine).status_code == 200


def test_a_job_that_runs_is_cancelled_and_erased(server, tmp_path):
    headers = make_key(server)
    server.client.headers.update(headers)
    job = submit(server.client, held(tmp_path / "never"))
    assert server.client.delete(f"/v1/jobs/{job}?erase=true", headers=headers).status_code == 204
    assert files(server) == []


def test_without_erase_a_job_that_has_ended_stays(server):
    headers = make_key(server)
    job = fold(server, 1, headers)
    server.client.delete(f"/v1/jobs/{job}", headers=headers)
    assert server.client.get(f"/v1/jobs/{job}/result", headers=headers).status_code == 200


def test_until_done_waits_for_the_end_and_not_for_the_next_change(server, tmp_path):
    headers, gate = make_key(server), tmp_path / "gate"
    server.client.headers.update(headers)
    job = submit(server.client, held(gate))
    address = f"/v1/jobs/{job}?until=done&wait="
    until(lambda: server.client.get(f"/v1/jobs/{job}", headers=headers).json()["status"] == "running")
    assert server.client.get(f"{address}0.05", headers=headers).json()["status"] == "running"
    gate.touch()
    assert server.client.get(f"{address}600", headers=headers).json()["status"] == "done"
    assert slug(server.client.get(f"/v1/jobs/{job}?until=never", headers=headers)) == "invalid-option"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("wait=0", "wait=0"), ("respond-async", "respond-async"), ("wait=100000", None), ("", None), ("odd", None)],
)
def test_the_preference_that_was_followed_is_reported(server, prefer, applied):
    headers = make_key(server) | {"Prefer": prefer}
    answer = server.client.post("/v1/fold", content=model_bytes(3), headers=headers)
    assert answer.headers.get("Preference-Applied") == applied
    ended_job = answer.headers["Bnfold-Job"]
    server.client.headers.update(headers)
    ended(server.client, ended_job)


def test_retry_after_is_when_the_limiter_opens(server):
    headers = make_key(server, quota=Quota(rate="1/hour"))
    began = time.time()
    assert slug(server.client.get("/v1/jobs/x", headers=headers)) == "not-found"
    answer = server.client.get("/v1/jobs/x", headers=headers)
    assert slug(answer) == "quota-exceeded"
    waited = time.time() - began
    assert 3600 - waited - 1 <= int(answer.headers["Retry-After"]) <= 3601
