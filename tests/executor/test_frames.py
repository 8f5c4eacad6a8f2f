from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.solver.executor.frames import MAX_FRAME, MAX_OUTPUT, Violation, read_replies

NONCE = "0123456789abcdef"


GOOD = ["ok", "", "", "", "", 0.001]


def frame(*answers: object, nonce: object = NONCE) -> bytes:
    return json.dumps([nonce, *answers]).encode()


def changed(index: int, value: object) -> list[object]:
    return [value if at == index else field for at, field in enumerate(GOOD)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"[" * 60_000,
        b"\xff\xfe",
        frame(),
        frame(GOOD[:5]),
        frame([*GOOD, ""]),
        frame({"answer": "ok"}),
        frame("ok", "", "", "", ""),
        frame(changed(0, "killed")),
        frame(changed(0, None)),
        frame(changed(1, 1)),
        frame(changed(1, None)),
        frame(changed(5, "0")),
        frame(changed(5, True)),
        frame(changed(5, -1)),
        frame(changed(5, 10**400)),
        frame(changed(5, float("nan"))),
        frame(changed(5, float("inf"))),
        frame(GOOD, nonce="f" * 16),
        frame(GOOD, nonce=None),
        frame(GOOD) + b"x",
        frame(GOOD) * 2,
        frame(GOOD, GOOD, GOOD),
        frame(GOOD, changed(0, "killed")),
        frame(changed(1, "x" * MAX_FRAME)),
        b"1" * 60_000,
    ],
)
def test_a_frame_no_honest_worker_sends_is_a_violation(data: bytes) -> None:
    with pytest.raises(Violation):
        read_replies(data, NONCE, 2)


def test_a_frame_answers_as_many_steps_as_it_holds() -> None:
    replies = read_replies(frame(GOOD, changed(1, "2")), NONCE, 5)
    assert [(reply.answer, reply.output, reply.cpu) for reply in replies] == [("ok", "", 0.001), ("ok", "2", 0.001)]


def test_text_is_cut_to_its_limit_in_bytes() -> None:
    (reply,) = read_replies(frame(["ok", "é" * 5000, "E" * 500, "m" * 5000, "", 0]), NONCE, 1)
    assert len(reply.output.encode()) == MAX_OUTPUT
    assert len(reply.error_type) == 100
    assert len(reply.error) == 500


def test_lone_surrogates_become_valid_text() -> None:
    assert read_replies(frame(changed(1, "a\ud800b")), NONCE, 1)[0].output == "a?b"


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_are_a_reply_or_a_violation(data: bytes) -> None:
    try:
        replies = read_replies(data, NONCE, 3)
    except Violation:
        return
    assert replies
