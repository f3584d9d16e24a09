"""The tables of the ledger, in SQLAlchemy Core. `migrations` creates them; a test checks that both agree."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text, false

DIGEST = String(64)

metadata = MetaData()

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", DIGEST, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("quota", Text, nullable=False),  # JSON
    Column("created", Double, nullable=False),
    Column("revoked", Double),
    Column("expires", Double),
    Column("previous", DIGEST),  # the hash of the secret before the last rotation
    Column("previous_until", Double),
    Column("erasing", Boolean, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("id", DIGEST, primary_key=True),
    Column("name", Text, nullable=False),
    Column("input_sha256", DIGEST, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("archive", Boolean, nullable=False),  # whether the input is a zip
    Column("options", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("status", String(16), nullable=False),
    Column("stage", String(16)),
    Column("progress", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("kills", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("result_sha256", DIGEST),
    Column("result_bytes", BigInteger),
    Column("media", Text, nullable=False),
    Column("report_sha256", DIGEST),
    Column("report_bytes", BigInteger),
    Column("page_sha256", DIGEST),
    Column("page_bytes", BigInteger),
    Column("problem", String(64)),
    Column("detail", Text),
    Column("traceparent", String(55)),
    Column("touched", Double, nullable=False),  # like `used`, `due` and all that has an age: by the clock of the ledger
    Column("run", String(32), nullable=False, server_default=""),  # what came later has a default: an older bnfold may
    Column("worker", BigInteger),  # still write rows without it
    Column("parked", Boolean, nullable=False, server_default=false()),
    Index("jobs_by_status", "status", "created"),
    Index("jobs_by_input", "key", "input_sha256"),
    Index("jobs_by_update", "updated"),
    Index("jobs_by_result", "key", "result_sha256"),
    Index("jobs_by_report", "key", "report_sha256"),
    Index("jobs_by_page", "key", "page_sha256"),
)

holdings = Table(
    "holdings",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("sha256", DIGEST, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("used", Double, nullable=False),
    Index("holdings_by_content", "sha256"),
    Index("holdings_by_use", "used"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("token", String(255), primary_key=True),
    Column("fingerprint", DIGEST, nullable=False),
    Column("created", Double, nullable=False),
)

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seconds", Double, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("key", String(32), nullable=False),
    Column("job", DIGEST, nullable=False),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False),  # the host and port of the URL
    Column("state", String(16), nullable=False),
    Column("body", Text),  # what is sent; null before the job ends and after the delivery ends
    Column("attempts", Integer, nullable=False),
    Column("traceparent", String(55)),
    Column("due", Double, nullable=False),  # time of the next attempt
    Column("updated", Double, nullable=False),
    Index("webhooks_by_time", "state", "due"),
    Index("webhooks_by_job", "key", "job"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # as Procrastinate has it
    Column("name", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("began", Double, nullable=False),
    Column("draining", Boolean, nullable=False),
)
