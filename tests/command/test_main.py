"""The command line: exit codes, what it says and where, and that it does no work it was not asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from folding.command import main as cli
from folding.command import progress
from folding.errors import LimitError, ModelError, OptionError, how_to_install
from folding.fleet.file import write_report
from folding.options import Options
from folding.refusal import CODES
from folding.report.errors import NothingToFoldError, VerificationError
from tests.support import ROOT
from tests.support.reports import EMPTY, FAILED, NOT_VERIFIED, VARIED, VERIFIED, bn, report
from tests.support.verification import saved

if TYPE_CHECKING:
    from pathlib import Path

UNPROVEN = report(bn(), verification=NOT_VERIFIED)
MISSING = FileNotFoundError(2, "No such file or directory", "in.onnx")
FULL = OSError(28, "No space left on device")
WRONG = VerificationError("the folded model differs", report(bn(), verification=FAILED))
NOTHING = NothingToFoldError("nothing could be folded", EMPTY)
FOLD = ["fold", "in.onnx", "-o", "out.onnx"]
TOO_SHORT = "bnfold: verify_timeout is 0.0; give a number of seconds above 0\n"


@dataclass
class Library:
    """Stands in for the folding itself: hands out a report or an error and remembers what it was asked."""

    answer: Any = VARIED
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls.append(arguments)
        if "progress" in named:
            stage = () if "timeout" in named else ("folding",)  # of a verification there is one stage
            named["progress"](*stage, 0, 2)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    fake = Library()
    for module, names in (("folding.api", ("fold", "inspect")), ("folding.verification.parent", ("verify",))):
        stand_in = ModuleType(module)
        for name in names:
            setattr(stand_in, name, fake)
        monkeypatch.setitem(sys.modules, module, stand_in)
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return fake


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exit_code(argv: list[str]) -> int:
    try:
        return cli.main(argv)
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("argv", "answer", "ended"),
    [
        (FOLD, VARIED, (0, "")),
        (["fold", "in.onnx", "--dry-run"], VARIED, (0, "")),
        (["inspect", "in.onnx"], EMPTY, (0, "")),
        (FOLD, MISSING, (2, "bnfold: in.onnx: no such file or directory\n")),
        (FOLD, FULL, (2, "bnfold: in.onnx: no space left on device\n")),
        (FOLD, PermissionError("the folder is read-only"), (2, "bnfold: in.onnx: the folder is read-only\n")),
        (FOLD, ModelError("the file ends early"), (2, "bnfold: in.onnx: the file ends early\n")),
        (FOLD, ModelError("in.onnx: the file ends early"), (2, "bnfold: in.onnx: the file ends early\n")),
        (["inspect", "a/in.pt"], ModelError("in.pt is a pickle"), (2, "bnfold: a/in.pt is a pickle\n")),
        (["inspect", "a/in.pt"], ModelError("input x is odd"), (2, "bnfold: a/in.pt: input x is odd\n")),
        (FOLD, ModelError("out.onnx: no such folder"), (2, "bnfold: out.onnx: no such folder\n")),
        (["verify", "a", "b"], ModelError("a: too short"), (2, "bnfold: a: too short\n")),
        (FOLD, ModelError("bad \x1b[31m name"), (2, "bnfold: in.onnx: bad \\x1b[31m name\n")),
        (FOLD, LimitError("too many nodes"), (2, "bnfold: in.onnx: too many nodes\n")),
        (FOLD, OptionError("s.npz: no input x"), (2, "bnfold: s.npz: no input x\n")),
        (FOLD, WRONG, (3, "bnfold: in.onnx: the folded model differs\n")),
        ([*FOLD, "--require-change"], NOTHING, (4, "bnfold: in.onnx: nothing could be folded\n")),
        (FOLD, KeyboardInterrupt(), (130, "bnfold: interrupted; nothing was written\n")),
        (FOLD, UNPROVEN, (0, "")),
        ([*FOLD, "--quiet"], UNPROVEN, (0, "bnfold: warning: in.onnx: not verified: no kernel for Custom\n")),
        ([*FOLD, "--json"], UNPROVEN, (0, "bnfold: warning: in.onnx: not verified: no kernel for Custom\n")),
        ([*FOLD, "--quiet", "--no-verify"], UNPROVEN, (0, "")),
        (["verify", "a", "b"], VERIFIED, (0, "")),
        (["verify", "a", "b"], FAILED, (3, "")),
        (["verify", "a", "b"], NOT_VERIFIED, (2, "")),
        (["verify", "a", "b"], OptionError("s.npz: no input x"), (2, "bnfold: s.npz: no input x\n")),
        (["verify", "a", "b"], MISSING, (2, "bnfold: in.onnx: no such file or directory\n")),
        (["verify", "a", "b"], FULL, (2, "bnfold: no space left on device\n")),
        ([*FOLD, "--verify-timeout", "0"], VARIED, (2, TOO_SHORT)),
    ],
)
def test_exit_codes_and_messages(
    library: Library, capsys: pytest.CaptureFixture[str], argv: list[str], answer: Any, ended: tuple[int, str]
) -> None:
    library.answer = answer
    assert (exit_code(argv), capsys.readouterr().err) == ended


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give a command: fold, inspect, from-torch, verify, explain, help, serve, worker, admin, keys, scrub,"),
        (["fodl", "a.onnx"], "bnfold: there is no command 'fodl' (did you mean fold?); see `bnfold --help`\n"),
        (["help", "convert"], "there is no command 'convert': give fold, inspect, from-torch, verify,"),
        (["explain", "zero-pading"], "explain: there is no code 'zero-pading'; did you mean zero-padding?"),
        (["explain", "xyz"], "explain: there is no code 'xyz'; `bnfold explain` lists them all"),
        (["keys", "lst"], "there is no command 'lst' (did you mean list?); see `bnfold keys --help`"),
        (["keys"], "give a command: add, list, rotate, revoke, webhook; see `bnfold keys --help`"),
        (
            ["keys", "list", "--daat", "x"],
            "unrecognized arguments: --daat (did you mean --data?) x; see `bnfold keys list --help`",
        ),
        (
            ["serve", "--prot", "80"],
            "unrecognized arguments: --prot (did you mean --port?) 80; see `bnfold serve --help`",
        ),
        (["fold"], "the following arguments are required: IN; see `bnfold fold --help`"),
        (["fold", "in.onnx"], "give -o OUT to write the folded model, or --dry-run"),
        ([*FOLD, "--nonsense"], "unrecognized arguments: --nonsense"),
        ([*FOLD, "--leftover", "drop"], "invalid choice: 'drop'"),
        ([*FOLD, "--verify-timeout", "soon"], "invalid float value: 'soon'"),
        ([*FOLD, "--freeze-init"], "--freeze-init (did you mean --freeze-initializers?); see `bnfold fold --help`"),
        ([*FOLD, "--clmp=always"], "unrecognized arguments: --clmp=always (did you mean --clamp?)"),
        ([*FOLD, "a\nb"], "unrecognized arguments: a\\nb; see"),
        ([*FOLD, "--report", "r.pdf"], "'r.pdf' does not say its form; end it in .json, .html, .md"),
        ([*FOLD, "--report", "none/r.md"], "'none/r.md' is in a folder that does not exist; create it first"),
        (["inspect", "in.onnx", "--no-verify"], "unrecognized arguments: --no-verify"),
        (["verify", "a"], "B"),
    ],
)
def test_usage_errors_come_before_any_work(
    library: Library, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert exit_code(argv) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert library.calls == []


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], Options()),
        (["--keep", "a.*", "--keep", "b"], Options(keep=("a.*", "b"))),
        (["--no-verify", "--freeze-training"], Options(verify=False, freeze_training=True)),
        (["--freeze-training", "stored"], Options(freeze_training="stored")),
        (["--freeze-training=no"], Options()),
        (["--freeze-training", "samples", "--inputs", "s.npz"], Options(freeze_training="samples", inputs="s.npz")),
        (["--inputs", "s.npz", "--verify-timeout", "1.5"], Options(inputs="s.npz", verify_timeout=1.5)),
        (["--leftover", "conv"], Options(leftover="conv")),
    ],
)
def test_what_the_library_is_asked(library: Library, flags: list[str], options: Options) -> None:
    assert exit_code([*FOLD, *flags]) == 0
    assert exit_code([*FOLD, "--dry-run", *flags]) == 0
    assert library.calls == [("in.onnx", "out.onnx", options), ("in.onnx", None, options)]


def test_freeze_training_may_stand_alone_before_the_model(library: Library) -> None:
    """It was a flag once, and is one in scripts."""
    assert exit_code(["inspect", "--freeze-training", "in.onnx"]) == 0
    assert library.calls == [("in.onnx", Options(freeze_training="stored"))]


def test_inspect_takes_the_options_of_a_fold(library: Library) -> None:
    assert exit_code(["inspect", "in.onnx", "--only", "x"]) == 0
    assert library.calls == [("in.onnx", Options(only=("x",)))]


def test_every_option_is_in_the_help_of_fold(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["fold", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in fields(Options):
        assert f"--{option.name.replace('_', '-')} " in text, option.name
        assert option.metadata["help"] in text, option.name
    for default in ("(default: keep)", "(default: yes)", "(default: 300)"):
        assert default in text


@pytest.mark.parametrize(
    "command", ["", "fold", "inspect", "verify", "explain", "serve", "keys", "scrub", "backup", "restore", "downgrade"]
)
def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str], command: str) -> None:
    said = []
    for argv in (["help", command], [command, "--help"]):
        assert exit_code([word for word in argv if word]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert exit_code([flag]) == 0
    assert capsys.readouterr().out.startswith("bnfold ")


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["explain", "zero-padding"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("zero-padding\n\nA shift does not pass zero padding. What to do: put the padding before")
    assert "It stays:\n\n    x: float" in output
    assert "It folds:\n\n    x: float" in output


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(CODES)]] == list(CODES)


def test_help_lists_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("fold", "inspect", "verify", "serve", "0 done", "2 bad", "3 the", "4 nothing"))


def test_the_report_goes_to_stdout_as_text_or_json(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(FOLD) == 0
    assert "4 of 8 BatchNormalizations folded, 1 split" in capsys.readouterr().out
    assert exit_code([*FOLD, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == VARIED.as_dict()
    assert exit_code([*FOLD, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_verify_prints_its_verdict(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    library.answer = FAILED
    assert exit_code(["verify", "a", "b"]) == 3
    assert "Verification failed" in capsys.readouterr().out
    assert exit_code(["verify", "a", "b", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["outputs"][1]["max_absolute"] is None


def test_verify_accepts_the_error_that_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = saved(
        tmp_path, *(f"(float[4] x) => (float[4] y) <float k = {{{k}}}> {{ y = Mul(x, k) }}" for k in (1, 1.01))
    )
    assert exit_code(["verify", str(before), str(after)]) == 3
    assert exit_code(["verify", str(before), str(after), "--max-error", "0.05"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(("answer", "code"), [(VARIED, 0), (WRONG, 3), (NOTHING, 4)])
def test_reports_are_written_whatever_the_outcome(library: Library, tmp_path: Path, answer: Any, code: int) -> None:
    library.answer = answer
    names = ("r.json", "r.html", "r.md")
    asked = [part for name in names for part in ("--report", name)]
    assert exit_code([*FOLD, "--quiet", *asked]) == code
    for name, start in zip(names, ("{", "<!doctype html>", "# "), strict=True):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert files(tmp_path) == sorted(names)


def test_a_report_that_cannot_be_written(library: Library, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "r.md").mkdir()
    assert exit_code([*FOLD, "--report", "r.md", "--report", "r.json"]) == 2
    assert capsys.readouterr().err == "bnfold: the report was not written: r.md: is a directory\n"
    assert files(tmp_path) == ["r.json", "r.md"]
    library.answer = WRONG
    assert exit_code([*FOLD, "--report", "r.md"]) == 3


def test_a_report_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.json"
    target.write_text("old")

    def fails(self: Path, _: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "replace", fails)
    with pytest.raises(OSError, match="No space"):
        write_report(VARIED, target)
    assert target.read_text() == "old"
    assert files(tmp_path) == ["r.json"]


def test_an_interrupt_after_the_model_was_written_says_so(
    library: Library, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "write_report", interrupted)
    assert exit_code([*FOLD, "--report", "r.md"]) == 130
    assert capsys.readouterr().err == "bnfold: interrupted; out.onnx was written\n"


@pytest.mark.parametrize(
    ("environment", "is_terminal", "coloured"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
@pytest.mark.usefixtures("library")
def test_colour_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_terminal: bool, coloured: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    assert exit_code(FOLD) == 0
    assert ("\x1b[" in screen.getvalue()) == coloured


# In a process of its own


def run(script: str, **named: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, **named)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["fold", "--help"], ["fold", "in.onnx"]])
def test_help_and_usage_import_nothing_heavy(argv: list[str]) -> None:
    script = (
        "import sys, contextlib\nfrom folding.command.main import main\n"
        f"with contextlib.suppress(SystemExit): main({argv!r})\n"
        "print(*sorted({'numpy', 'onnx', 'onnxruntime', 'tqdm', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = run(script)
    assert done.stderr.splitlines()[-1] == "", done.stderr


LARGE = """
import sys, types
sys.path.insert(0, {tests!r})
from tests.support.reports import bn, report
api = types.ModuleType("folding.api")
api.inspect = lambda *_: report(*(bn(f"bn{{i}}" * 50) for i in range(2000)), source={source!r})
sys.modules["folding.api"] = api
from folding.command.main import main
sys.exit(main(["inspect", "in.onnx", *sys.argv[1:]]))
"""


def test_a_reader_that_leaves_early_is_no_error(request: pytest.FixtureRequest) -> None:
    script = LARGE.format(tests=str(ROOT), source="in.onnx")
    with subprocess.Popen(
        [sys.executable, "-c", script, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")


def test_a_name_the_terminal_cannot_encode(request: pytest.FixtureRequest) -> None:
    script = LARGE.format(tests=str(ROOT), source="层.onnx")
    done = run(script, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\\u5c42.onnx -> out.onnx")


@pytest.mark.parametrize(
    ("flags", "is_terminal", "shown"),
    [([], True, True), ([], False, False), (["--quiet"], True, False), (["--json"], True, False)],
)
def test_bars_are_for_people(
    library: Library, monkeypatch: pytest.MonkeyPatch, flags: list[str], is_terminal: bool, shown: bool
) -> None:
    asked: list[bool] = []

    class Watched(progress.Bars):
        def __init__(self, *, enabled: bool) -> None:
            asked.append(enabled)
            super().__init__(enabled=enabled)

    monkeypatch.setattr(cli, "Bars", Watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert exit_code([*FOLD, *flags]) == 0
    assert asked == [shown]


def test_the_bar_is_gone_before_the_report_appears(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Watched(progress.Bars):
        def __exit__(self, *_: object) -> None:
            events.append("bar gone")

    monkeypatch.setattr(cli, "Bars", Watched)
    monkeypatch.setattr(cli, "show", lambda _: events.append("report shown"))
    assert exit_code(FOLD) == 0
    assert events == ["bar gone", "report shown"]


@pytest.mark.parametrize("command", ["serve", "keys", "scrub", "backup", "restore", "downgrade"])
def test_without_the_service_its_commands_say_how_to_get_it(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "service.command.main", raising=False)
    assert cli.main([command, "--help"]) == 2
    said = f"the service is not installed (uvicorn is missing); {how_to_install('service')}"
    assert capsys.readouterr().err == f"bnfold: {command}: {said}\n"
