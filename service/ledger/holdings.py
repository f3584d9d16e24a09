"""The holdings of the ledger in SQL: which key holds which blob, and the release of unused ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, or_, select, update

from service.blobs import Blob
from service.ledger import clock, database
from service.ledger.records import OPEN, Damage, Failure, Holding, Output, Usage
from service.ledger.rows import OUTPUTS, end, is_job, job_of, queued_again, store
from service.ledger.schema import holdings, idempotency, jobs
from service.ledger.webhooks import forget
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import ColumnElement, Connection

    from service.ledger.database import Database
    from service.ledger.records import Job

AT_ONCE = 200  # holdings that one transaction releases: all other writers wait for it
SWEEP = "sweep"  # the name of a lock
LOST = Failure("internal", "the server's disk lost or damaged the upload; send it again")


class SqlHoldings:
    """See `service.ledger.interface.Holdings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holding(self, key: str, sha256: str) -> Blob | None:
        """See `service.ledger.interface.Holdings`."""
        with self._database.read() as connection:
            row = connection.execute(select(holdings).where(_is(key, sha256))).one_or_none()
            return None if row is None else Blob(row.sha256, row.bytes)

    def keep(self, key: str, blob: Blob) -> None:
        """See `service.ledger.interface.Holdings`."""
        with self._database.write() as connection:
            hold(connection, key, [blob])

    def use(self, key: str, addresses: Iterable[str]) -> None:
        """See `service.ledger.interface.Holdings`."""
        mine = and_(holdings.c.key == key, holdings.c.sha256.in_(list(addresses)))
        with self._database.write() as connection:
            connection.execute(update(holdings).where(mine).values(used=clock.now(connection)))

    def release(self, key: str, sha256: str) -> bool:
        """See `service.ledger.interface.Holdings`."""
        with self._database.write() as connection:
            database.alone(connection, [key_lock(key)])
            needed = and_(jobs.c.key == key, jobs.c.input_sha256 == sha256, jobs.c.status.in_(OPEN))
            if connection.execute(select(exists().where(needed))).scalar_one():
                raise Problem("in-use", "a job that has not ended needs this blob; wait for it, or cancel it")
            return drop(connection, key, sha256)

    def sweep(self, unused: float, cap: int) -> list[str]:
        """See `service.ledger.interface.Holdings`."""
        gone: list[str] = []
        is_over = False
        while not gone and not is_over:
            with self._database.write() as connection:
                clock.write(connection)
                if not database.first(connection, SWEEP):
                    return []  # another server does it now
                before = clock.now(connection) - unused
                gone, is_over = _let_go(connection, before, cap)
                if is_over:
                    _forget(connection, before)
        return gone

    def usage(self, key: str) -> Usage:
        """See `service.ledger.interface.Holdings`."""
        open_jobs = select(func.count()).where(jobs.c.key == key, jobs.c.status.in_(OPEN))
        held = select(func.sum(holdings.c.bytes)).where(holdings.c.key == key)
        with self._database.read() as connection:
            return Usage(connection.execute(open_jobs).scalar_one(), connection.execute(held).scalar_one() or 0)

    def total(self) -> int:
        """See `service.ledger.interface.Holdings`."""
        with self._database.read() as connection:
            return _total(connection)

    def held(self) -> list[Holding]:
        """See `service.ledger.interface.Holdings`."""
        with self._database.read() as connection:
            return [
                Holding(row.key, Blob(row.sha256, row.bytes), row.used) for row in connection.execute(select(holdings))
            ]

    def discard(self, sha256: str, remove: Callable[[], None]) -> None:
        """See `service.ledger.interface.Holdings`."""
        with self._database.write(database.LONGER_SECONDS) as connection:
            database.alone(connection, [sha256])
            if not _is_held(connection, sha256):
                remove()

    def lost(self, addresses: Iterable[str], is_gone: Callable[[str], bool] = bool) -> Damage:
        """See `service.ledger.interface.Holdings`."""
        with self._database.write(database.LONGER_SECONDS) as connection:
            asked = sorted(set(addresses))
            database.alone(connection, asked)
            lost = [sha256 for sha256 in asked if is_gone(sha256)]
            for sha256 in lost:
                connection.execute(delete(holdings).where(holdings.c.sha256 == sha256))
            failed = [job for sha256 in lost for job in _open_with(connection, sha256)]
            for job in failed:
                end(connection, job, Output(), LOST)
            again = gone = 0
            for sha256 in lost:
                for job in _producing(connection, sha256):
                    if _has_input(connection, job):
                        store(connection, queued_again(job))
                        again += 1
                    else:
                        connection.execute(delete(jobs).where(is_job(job.key, job.id)))
                        gone += 1
        return Damage(again, gone, len(failed))


def key_lock(key: str) -> str:
    """The name of the lock of a key: what decides by all that a key has, and what a sweep takes from it, is alone."""
    return f"key {key}"


def hold(connection: Connection, key: str, blobs: Iterable[Blob]) -> None:
    """Record that a key holds these blobs, and uses them now. The caller is `together` in their locks."""
    for blob in blobs:
        row: dict[str, Any] = {"key": key, "sha256": blob.sha256, "bytes": blob.bytes, "used": clock.now(connection)}
        known = ["key", "sha256"]
        made = database.insert(connection, holdings).values(row)
        connection.execute(made.on_conflict_do_update(index_elements=known, set_={"used": row["used"]}))


def _let_go(connection: Connection, before: float, cap: int) -> tuple[list[str], bool]:
    """Release one batch; return the digests that no key holds any more, and whether nothing is left to release.

    First goes what was not used since `before`. Then, above `cap`, the least recently used of the key that holds most:
    so a key that holds no more than an equal share of the cap loses nothing through others.
    """
    unused = select(holdings).where(~_is_needed(), holdings.c.used < before).order_by(holdings.c.used).limit(AT_ONCE)
    rows = connection.execute(unused).all()
    if rows:
        keys = {row.key for row in rows}
        database.alone(connection, map(key_lock, keys))
        rows = connection.execute(unused.where(holdings.c.key.in_(keys))).all()  # they may be in use since
        return [row.sha256 for row in rows if drop(connection, row.key, row.sha256)], False
    gone: list[str] = []
    total, held = _total(connection), _held(connection)
    while total > cap and held:
        key = max(held, key=lambda one: held[one])
        database.alone(connection, [key_lock(key)])
        free = select(holdings).where(holdings.c.key == key, ~_is_needed()).order_by(holdings.c.used).limit(1)
        row = connection.execute(free).one_or_none()
        if row is None:
            del held[key]  # open jobs need the rest
            continue
        if len(gone) == AT_ONCE:
            return gone, False
        held[key] -= row.bytes
        if drop(connection, key, row.sha256):
            gone.append(row.sha256)
            total -= row.bytes
    return gone, True


def _forget(connection: Connection, before: float) -> None:
    """Remove what ended before a time: jobs without a result, idempotency keys, and webhooks."""
    ended = and_(jobs.c.touched < before, ~jobs.c.status.in_(OPEN), jobs.c.result_sha256.is_(None))
    connection.execute(delete(jobs).where(ended))
    connection.execute(delete(idempotency).where(idempotency.c.created < before))
    forget(connection, before)


def drop(connection: Connection, key: str, sha256: str) -> bool:
    """Release a blob, and remove the jobs whose output it is; whether no key holds it any more."""
    for output in (jobs.c.result_sha256, jobs.c.report_sha256, jobs.c.page_sha256):  # each has its own index
        connection.execute(delete(jobs).where(jobs.c.key == key, output == sha256))
    connection.execute(delete(holdings).where(_is(key, sha256)))
    return not _is_held(connection, sha256)


def _is_held(connection: Connection, sha256: str) -> bool:
    return bool(connection.execute(select(exists().where(holdings.c.sha256 == sha256))).scalar_one())


def _total(connection: Connection) -> int:
    once = select(func.max(holdings.c.bytes).label("bytes")).group_by(holdings.c.sha256).subquery()
    return connection.execute(select(func.sum(once.c.bytes))).scalar_one() or 0


def _held(connection: Connection) -> dict[str, int]:
    """The bytes that each key holds."""
    of_keys = select(holdings.c.key, func.sum(holdings.c.bytes).label("bytes")).group_by(holdings.c.key)
    return {row.key: row.bytes for row in connection.execute(of_keys)}


def _open_with(connection: Connection, sha256: str) -> list[Job]:
    """The open jobs with this input."""
    mine = and_(jobs.c.input_sha256 == sha256, jobs.c.status.in_(OPEN))
    return [job_of(row) for row in connection.execute(select(jobs).where(mine).with_for_update()).all()]


def _producing(connection: Connection, sha256: str) -> list[Job]:
    """The jobs with this output."""
    mine = or_(*(jobs.c[f"{name}_sha256"] == sha256 for name in OUTPUTS))
    return [job_of(row) for row in connection.execute(select(jobs).where(mine).with_for_update()).all()]


def _has_input(connection: Connection, job: Job) -> bool:
    return bool(connection.execute(select(exists().where(_is(job.key, job.input.sha256)))).scalar_one())


def _is_needed() -> ColumnElement[bool]:
    mine = and_(jobs.c.key == holdings.c.key, jobs.c.input_sha256 == holdings.c.sha256)
    return exists().where(mine, jobs.c.status.in_(OPEN))


def _is(key: str, sha256: str) -> ColumnElement[bool]:
    return and_(holdings.c.key == key, holdings.c.sha256 == sha256)
