"""A parser of command lines whose errors are one line, and say what may have been meant."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from folding.report.digest import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USAGE = 2  # exit code
SHORTEST = 4  # letters of a beginning that says more than the likeness of the whole word: "--fr"


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser`; so are the parsers of its commands. No option may be abbreviated."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **named})  # type: ignore[arg-type]

    def parsed(self, given: Sequence[str]) -> argparse.Namespace:
        """The arguments; errors leave through `SystemExit` with code 2."""
        _require_command(self, given)
        arguments, unknown = self.parse_known_args(given)
        if unknown:
            parser = list(_chosen(self, given))[-1]
            flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
            meanings = [f"{word}{_meant(word.partition('=')[0], flags)}" for word in unknown]
            parser.error(f"unrecognized arguments: {' '.join(meanings)}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Say it on one line, and end."""
        self.exit(USAGE, f"bnfold: {printable(message)}; see `{self.prog} --help`\n")


def _require_command(parser: Parser, given: Sequence[str]) -> None:
    """Refuse a first word that is no command, with those that come closest; the same for the commands of a command."""
    for at in _chosen(parser, given):
        commands = _commands(at)
        word = next((word for word in given[len(at.prog.split()) - 1 :] if not word.startswith("-")), None)
        if commands and word is None and not set(given) & set(at._option_string_actions):
            at.error(f"give a command: {', '.join(commands)}")
        if commands and word is not None and word not in commands:
            at.error(f"there is no command {word!r}{_meant(word, commands) or ': give ' + ', '.join(commands)}")


def _chosen(parser: Parser, given: Sequence[str]) -> Iterator[Parser]:
    """The parser, then that of the command, then that of the command's command."""
    yield parser
    for word in given:
        commands = _commands(parser)
        if word in commands:
            parser = commands[word]
            yield parser


def _commands(parser: Parser) -> dict[str, Parser]:
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next((dict(action.choices) for action in found), {})


def _meant(word: str, known: Iterable[str]) -> str:
    """What may have been meant: all that the word begins, or what comes closest."""
    known = list(known)
    begun = [one for one in known if one.startswith(word) and len(word) > SHORTEST]
    close = begun or get_close_matches(word, known, n=1)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
