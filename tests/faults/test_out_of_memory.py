"""The forms in which a process hears that there is no more memory: each is one line (found by the fault campaign)."""

from __future__ import annotations

import errno

import pytest

from rstar_eval import cli


def chained(first: BaseException) -> BaseException:
    error = ValueError("what came of it")
    error.__context__ = RuntimeError("between")
    error.__context__.__context__ = first
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (chained(MemoryError()), True),
        (RuntimeError("something else"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (chained(KeyError("x")), False),
    ],
    ids=lambda value: repr(value),
)
def test_out_of_memory_is_one_line_and_other_failures_are_not_hidden(
    error: BaseException, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", failing)
    if not told:
        with pytest.raises(type(error)):
            cli.main()
        return
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: out of memory. ")
