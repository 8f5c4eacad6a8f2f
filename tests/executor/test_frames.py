from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.solver.executor.frames import MAX_FRAME, MAX_OUTPUT, Violation, read_reply

NONCE = "0123456789abcdef"


def frame(*fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"[" * 60_000,
        b"\xff\xfe",
        frame(NONCE, "ok", "", "", ""),
        frame(NONCE, "ok", "", "", "", "", ""),
        frame(NONCE, "ok", 1, "", "", ""),
        frame(NONCE, "ok", None, "", "", ""),
        frame(NONCE, "killed", "", "", "", ""),
        frame("f" * 16, "ok", "", "", "", ""),
        frame(NONCE, "ok", "", "", "", "") + b"x",
        frame(NONCE, "ok", "", "", "", "") * 2,
        frame(NONCE, "ok", "x" * MAX_FRAME, "", "", ""),
        b"1" * 60_000,
    ],
)
def test_a_frame_no_honest_worker_sends_is_a_violation(data: bytes) -> None:
    with pytest.raises(Violation):
        read_reply(data, NONCE)


def test_text_is_cut_to_its_limit_in_bytes() -> None:
    reply = read_reply(frame(NONCE, "ok", "é" * 5000, "E" * 500, "m" * 5000, ""), NONCE)
    assert len(reply.output.encode()) == MAX_OUTPUT
    assert len(reply.error_type) == 100
    assert len(reply.error) == 500


def test_lone_surrogates_become_valid_text() -> None:
    assert read_reply(frame(NONCE, "ok", "a\ud800b", "", "", ""), NONCE).output == "a?b"


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_are_a_reply_or_a_violation(data: bytes) -> None:
    try:
        reply = read_reply(data, NONCE)
    except Violation:
        return
    assert reply.answer
