"""Errors that a user can mend, apart from errors of the program."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input or the surroundings that the user can mend.

    The command line prints it as one line (what is wrong, the value, the mend) and exits with code 2, without a
    traceback. Raise it with the offending value in `message` and the mend in `fix`.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        self.message = " ".join(message.split())
        self.fix = " ".join(fix.split())
        super().__init__(f"{self.message}. {self.fix}" if self.fix else self.message)


class BackendError(UserError):
    """A policy, reward model or executor that failed during a run. Finished work is stored; the run can be resumed."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception, or one that it came of, says that there is no more memory: Python's own, the
    system's, or that of a thread that can't be started."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        if isinstance(error, MemoryError) or no_thread or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        error = error.__cause__ or error.__context__
    return False


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Return a mend for an unknown name: the nearest allowed one if any is near, else the list of all.

    >>> nearest("aime204", ["aime2024", "math500"])
    'did you mean aime2024?'
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
