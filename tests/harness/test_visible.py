from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9 \u221a2\n\tnext", "plain \u00e9 \u221a2\n\tnext"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("12\r99", "12\\x0d99"),
        ("abc\u202e321", "abc\\u202e321"),
        ("\ud800", "\\ud800"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_shown_text_can_always_be_encoded_and_holds_no_escape(text: str) -> None:
    shown = visible(text).encode("utf-8")
    assert b"\x1b" not in shown
    assert b"\r" not in shown
