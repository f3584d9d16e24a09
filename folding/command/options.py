"""Command-line options from the library's `Options`: one declaration serves both."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from folding.options import Freezing, Options, option_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FREEZE = "--freeze-training"


def add_options(group: argparse._ActionsContainer, names: Iterable[str]) -> None:
    """Add the options with these names to a command, with the help and the form that `Options` declares."""
    declared, types = option_fields(), get_type_hints(Options)
    for name in names:
        given = argparse.SUPPRESS  # an option that is not given gets its default from Options alone
        flag, form = f"--{name.replace('_', '-')}", _form(types[name], declared[name]["default"])
        form |= {key: declared[name][key] for key in ("metavar", "choices") if key in declared[name]}
        group.add_argument(flag, dest=name, default=given, help=_help(declared[name]), **form)


def _form(kind: object, default: Any) -> dict[str, Any]:
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction if default else "store_true"}
    if get_origin(kind) is tuple:
        return {"action": "append", "type": get_args(kind)[0]}
    if kind == Freezing | bool:
        return {"choices": get_args(Freezing)}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"type": next((part for part in get_args(kind) if part is not type(None)), kind)}


def _help(declared: dict[str, Any]) -> str:
    text, default = declared["help"], declared["default"]
    shown = "yes" if default is True else f"{default:g}" if isinstance(default, float) else default
    described = f"{text} (default: {shown})" if shown else f"{text}"
    return described.replace("%", "%%")  # argparse formats it


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with a value for ``--freeze-training``, which may stand alone: it was a flag once."""
    result = list(arguments)
    for place, given in enumerate(arguments):
        if given == FREEZE and (place + 1 == len(arguments) or arguments[place + 1] not in get_args(Freezing)):
            result[place] = f"{FREEZE}=stored"
    return result


def chosen_options(arguments: argparse.Namespace) -> Options:
    """The options given on the command line; all others have their defaults."""
    given = vars(arguments)
    return Options(**{name: given[name] for name in option_fields() if name in given})
