"""The commands of the service, which `folding.command.main` hands over."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from limits import parse
from pydantic import ValidationError
from pydantic_settings import SettingsError

from folding.command.parser import Parser
from service import upkeep
from service.auth.audit import audit
from service.auth.keys import SCOPES, moment, new_key, new_secret
from service.command.admin import add_admin
from service.command.checks import invalid_settings, prepare, require_startable, unreadable_settings
from service.command.parsing import add_settings
from service.command.starting import log_start
from service.command.variables import from_files
from service.command.worker import add_worker
from service.http.app import create_app
from service.http.connections import patient, room
from service.ledger.records import NOBODY, Quota
from service.ledger.sql import FILE, step_back
from service.secret import webhook_secret
from service.settings import Settings
from service.state import LOCK, lock, the_blobs, the_ledger
from service.storage import Storage

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from types import FrameType

    from service.ledger.interface import Ledger
    from service.upkeep import Checked

DONE, BAD_INPUT, DIFFERENT = 0, 2, 3  # as `folding.command.endings` has them
GRACE_SECONDS = 5  # after running folds had theirs: for connections that still read an answer
BACKLOG = 512
KEEP_ALIVE_SECONDS = 15


def main(argv: Sequence[str]) -> int:
    """Run one of the commands and return its exit code; usage errors leave through `SystemExit` with code 2."""
    arguments = _parser().parsed(argv)
    given = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    try:
        os.environ.update(from_files(os.environ))
        settings = Settings(**given)
        code: int = arguments.run(settings, arguments)
    except ValidationError as error:
        return _complain(f"{arguments.command}: {invalid_settings(error)}")
    except SettingsError as error:
        return _complain(f"{arguments.command}: {unreadable_settings(error)}")
    except (RuntimeError, OSError, ValueError) as error:
        return _complain(str(error))
    return code


def _parser() -> Parser:
    parser = Parser("bnfold")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = "Serve folds over HTTP. All other settings are environment variables: BNFOLD_WORKERS, BNFOLD_TTL_SECONDS..."
    serve = commands.add_parser("serve", description=about)
    add_settings(serve, "host", "port", "data")
    serve.set_defaults(run=_serve)
    add_worker(commands)
    add_admin(commands)
    keys = commands.add_parser("keys", description="The API keys of a data folder.")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    _add_actions(actions)
    _add_upkeep(commands)
    return parser


def _add_upkeep(commands: argparse._SubParsersAction[Parser]) -> None:
    about = "Read every blob. Results that the disk lost or damaged are folded again; exit code 3: there were some."
    scrub = commands.add_parser("scrub", description=about)
    about = "Copy the ledger, the blobs and the secret, so that they agree, also while a server runs."
    backup = commands.add_parser("backup", description=about)
    backup.add_argument("folder", type=Path, metavar="COPY", help="where to; it may hold an earlier copy")
    restore = commands.add_parser("restore", description="Make a data folder from a copy that `bnfold backup` made.")
    restore.add_argument("folder", type=Path, metavar="COPY", help="where from")
    about = "Let the ledger go back to the version before, for the bnfold before this one. Stop the server first."
    downgrade = commands.add_parser("downgrade", description=about)
    for parser, run in ((scrub, _scrub), (backup, _backup), (restore, _restore), (downgrade, _downgrade)):
        add_settings(parser, "data")
        parser.set_defaults(run=run)


def _add_actions(actions: argparse._SubParsersAction[Parser]) -> None:
    add = actions.add_parser("add", help="make a key and print it; it is not shown again")
    add.add_argument("name", help="whose it is, or what for")
    add.add_argument("--scope", action="append", choices=SCOPES, help="what it may do (repeatable; default: all)")
    add.add_argument("--expires", type=_moment, metavar="90d", help="when it is refused: in so long, or at a date")
    add.add_argument("--rate", metavar="60/minute", help="requests in a time (default: any)")
    add.add_argument(
        "--open-jobs", type=_bound, default=100, metavar="N", help="its jobs that have not ended (default: 100)"
    )
    add.add_argument("--bytes", type=_bound, default=20 << 30, metavar="N", help="bytes kept for it (default: 20 GiB)")
    add.add_argument(
        "--weight", type=_positive, default=1, metavar="N", help="its turns for one of others (default: 1)"
    )
    listing = actions.add_parser("list", help="show the keys, without their secrets")
    rotate = actions.add_parser("rotate", help="give a key another secret, and print it; what belongs to it stays")
    rotate.add_argument("id", help="the middle part of the key, as `list` shows it")
    rotate.add_argument(
        "--overlap", type=_moment, default="1d", metavar="1d", help="how long its old secret is good (default: 1d)"
    )
    revoke = actions.add_parser("revoke", help="refuse a key from now on; its streams and jobs end")
    revoke.add_argument("id", help="the middle part of the key, as `list` shows it")
    revoke.add_argument("--erase", action="store_true", help="remove its jobs and blobs, too")
    webhook = actions.add_parser("webhook", help="print the secret that signs the webhooks of a key")
    webhook.add_argument("id", nargs="?", default=NOBODY, help="as `list` shows it (default: requests without a key)")
    for parser, run in ((add, _add), (listing, _list), (rotate, _rotate), (revoke, _revoke), (webhook, _webhook)):
        add_settings(parser, "data")
        parser.set_defaults(run=run)


class Server(uvicorn.Server):
    """uvicorn that prints its address, and notifies the application when it is to end: no request waits then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"bnfold serves at {address} ({address}/ is its page); Ctrl-C ends it", flush=True)
            log_start(self.config.app.state.service)  # type: ignore[union-attr]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if service is not None:
            service.changes.close()
        super().handle_exit(sig, frame)


def _serve(settings: Settings, _: argparse.Namespace) -> int:
    prepare()
    try:
        require_startable(settings)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"serve: {error}") from None
    config = uvicorn.Config(
        create_app(settings),
        settings.host,
        settings.port,
        http=patient(settings.client_seconds, room(settings.workers + settings.spares)),
        ws="none",
        log_config=None,
        access_log=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.shutdown_seconds) + GRACE_SECONDS,
    )
    server = Server(config)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all has ended, and all is well then
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it could not start: its codes mean something else here
        return BAD_INPUT
    return DONE if server.started else BAD_INPUT


def _add(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.rate is not None:
        parse(arguments.rate)
    quota = Quota(arguments.rate, arguments.open_jobs, arguments.bytes, arguments.weight)
    key, text = new_key(arguments.name, tuple(arguments.scope or SCOPES), quota, arguments.expires)
    code = _with_ledger(settings, lambda ledger: ledger.add_key(key))
    audit(settings.data, "key added", key=key.id, name=key.name, scopes=key.scopes)
    print(text)
    return code


def _list(settings: Settings, _: argparse.Namespace) -> int:
    _require_data(settings)

    def show(ledger: Ledger) -> None:
        for key in ledger.all_keys():
            made = _shown(key.created)
            state = "revoked" if key.revoked is not None else "expired" if key.has_ended(time.time()) else "active"
            quota = ", ".join(f"{name} {value}" for name, value in asdict(key.quota).items() if value is not None)
            ends = f"expires {_shown(key.expires)}" if key.expires is not None else ""
            print(f"{key.id}  {state:<7}  {made}  {','.join(key.scopes)}  {key.name!a}  {quota}  {ends}".rstrip())

    return _with_ledger(settings, show)


def _rotate(settings: Settings, arguments: argparse.Namespace) -> int:
    _require_data(settings)
    digest, text = new_secret(arguments.id)

    def rotate(ledger: Ledger) -> None:
        if not ledger.rotate_key(arguments.id, digest, arguments.overlap):
            raise RuntimeError(f"keys: there is no active key {arguments.id!a}; see `bnfold keys list`")
        audit(settings.data, "key rotated", key=arguments.id, until=_shown(arguments.overlap))
        print(text)

    return _with_ledger(settings, rotate)


def _revoke(settings: Settings, arguments: argparse.Namespace) -> int:
    _require_data(settings)

    def revoke(ledger: Ledger) -> None:
        if not ledger.revoke_key(arguments.id, erase=arguments.erase):
            raise RuntimeError(f"keys: there is no active key {arguments.id!a}; see `bnfold keys list`")
        audit(settings.data, "key revoked", key=arguments.id, erase=arguments.erase)
        if arguments.erase:
            _erase(settings, ledger, arguments.id)

    return _with_ledger(settings, revoke)


def _erase(settings: Settings, ledger: Ledger, key: str) -> None:
    """Erase what belongs to a key; a server that runs has seen the mark in the ledger, and does it itself."""
    try:
        right = lock(settings.data)
    except RuntimeError:
        return
    try:
        ledger.end_jobs(time.time())
        asyncio.run(Storage(the_blobs(settings), ledger).erase(key))
        audit(settings.data, "key erased", key=key)
    finally:
        os.close(right)


def _webhook(settings: Settings, arguments: argparse.Namespace) -> int:
    def show(ledger: Ledger) -> None:
        if arguments.id != NOBODY and ledger.key(arguments.id) is None:
            raise RuntimeError(f"keys: there is no active key {arguments.id!a}; see `bnfold keys list`")
        print(webhook_secret(settings.secret_folder, arguments.id))

    return _with_ledger(settings, show)


def _scrub(settings: Settings, _: argparse.Namespace) -> int:
    _require_files(settings, "scrub")
    _require_data(settings)
    return _report("read", upkeep.scrub(settings.data))


def _backup(settings: Settings, arguments: argparse.Namespace) -> int:
    _require_files(settings, "backup")
    if (arguments.folder / LOCK).exists():
        raise RuntimeError(f"backup: {arguments.folder} is the data folder of a server; name another folder")
    return _report("copied", upkeep.copy(settings.data, arguments.folder.absolute()))


def _restore(settings: Settings, arguments: argparse.Namespace) -> int:
    _require_files(settings, "restore")
    right = lock(settings.data)
    try:
        if (settings.data / FILE).exists():
            raise RuntimeError(f"restore: there is a ledger in {settings.data}; name a new folder with --data")
        return _report("restored", upkeep.copy(arguments.folder.absolute(), settings.data))
    finally:
        os.close(right)


def _downgrade(settings: Settings, _: argparse.Namespace) -> int:
    _require_data(settings)
    right = lock(settings.data)
    try:
        version = step_back(settings.data, settings.database_url)
        print(f"the ledger has version {version} now; start no server of this bnfold with it")
    finally:
        os.close(right)
    return DONE


def _report(done: str, checked: Checked) -> int:
    """Print what was read; the exit code says whether something was damaged."""
    for blob in checked.damaged:
        print(f"damaged or missing: {blob.sha256} ({blob.bytes:,} bytes)")
    damage = checked.damage
    jobs = (
        f"{damage.again} jobs are folded again, {damage.removed} are removed, {damage.failed} need their upload again"
    )
    found = f"{len(checked.damaged)} are damaged or missing: {jobs}" if checked.damaged else "all whole"
    print(f"{done} {checked.blobs} blobs, {checked.bytes:,} bytes; {found}")
    return DIFFERENT if checked.damaged else DONE


def _require_files(settings: Settings, command: str) -> None:
    """What reads a data folder cannot read what is elsewhere."""
    if settings.database_url or settings.blobs_url:
        raise RuntimeError(f"{command}: the ledger or the blobs are not in {settings.data}; see docs/cluster.md")


def _require_data(settings: Settings) -> None:
    if not settings.database_url and not settings.data.is_dir():
        raise RuntimeError(f"there is no folder {settings.data}; name the one that the server has: --data")


def _bound(text: str) -> int | None:
    return None if text == "any" else _positive(text)


def _moment(text: str) -> float:
    try:
        return moment(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _with_ledger(settings: Settings, act: Callable[[Ledger], object]) -> int:
    ledger = the_ledger(settings)
    try:
        act(ledger)
    finally:
        ledger.close()
    return DONE


def _complain(text: str) -> int:
    print(f"bnfold: {text}", file=sys.stderr)
    return BAD_INPUT
