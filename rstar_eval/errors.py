"""Errors that a user can mend, apart from errors of the program."""

from __future__ import annotations

import difflib
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


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Return a mend for an unknown name: the nearest allowed one if any is near, else the list of all.

    >>> nearest("aime204", ["aime2024", "math500"])
    'did you mean aime2024?'
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
