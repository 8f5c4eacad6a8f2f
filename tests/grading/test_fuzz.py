"""Fuzz: odd texts get a verdict soon, raise nothing and keep memory bounded.

pytest tests/grading/test_fuzz.py --run-slow -s        # ten minutes of CPU time; prints the figures
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rstar_eval.grading import GraderPool, extract_answer, grade, group_answers
from rstar_eval.grading.ladder import Passed, decide

HANG_SECONDS = 5.0  # CPU time, not the wall clock: the machine may be busy
GROWTH_MIB = 100
_MATHEMATICS = r"""
    \frac \dfrac \frac12 \sqrt \sqrt[3] \left( \right) \left[ \right] \left\{ \right. \{ \} { } ( ) [ ] | , ; : . + - *
    / ^ _ ! = < > \le \ge \ne \in \cup \cap \pm \mp \infty \pi \sin \cos^2 \log_2 \ln \arctan \text{ \mathrm{cm}
    \mbox{ \begin{pmatrix} \end{pmatrix} \begin{array}{cc} \end{array} \begin{cases} & \\ \boxed{ \fbox{ $ $$ \[ \] \$
    \% % ° ² ½ √ × − π ∞ ≤ ∪ 0 1 2 3 12 3.14 1,000 {,} 1e5 1e-300 1e400 0.1+0.2j x y n i e I E k j pi oo sqrt( Rational(
    Matrix([[ ]]) Interval( Union( FiniteSet( Eq( Point( {x: and or is base degrees percent million 5:05 pm
    \sum_{k=1}^{ \prod_{n=1}^{ \int_0^1 \lim_{x\to0} \binom \lfloor \rfloor \lceil \rceil \langle \rangle \lvert
    ' '' \overline{3} 0.\overline{ \angle ABC Yes No None nan \emptyset \setminus \mathbb{R} \mathbb{Z} != <= **
    // \over \choose ~ \, \! \quad 10^{10^{10}} 9! !! \circ ^\circ \equiv \pmod{ \vec{ \hat{ \mathbf{i} \mid \to
    \approx \wedge __import__('os') lambda [0]*9 (A) \textbf{(B)} ft " cm
"""
FRAGMENTS = [
    *_MATHEMATICS.split(),
    *["is ", " or ", " and ", " the answer is ", "####", "<answer>", "</answer>", "**", "\n", "\t", " "],
    *["\u200b", "\u202e", "\x00", "\ufeff", "é", "中", "٣", "Ⅳ", "\ud800", "𝟙"],
]
SPELLINGS = [
    side
    for line in Path(__file__).with_name("equivalence.jsonl").read_text().splitlines()
    for side in (json.loads(line)["gold"], json.loads(line)["pred"])
]
PIECES = st.lists(st.sampled_from(FRAGMENTS), max_size=14)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real spelling with fragments put in, parts cut out and parts doubled."""
    text: str = draw(st.sampled_from(SPELLINGS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 6)))
        middle = draw(st.sampled_from([*FRAGMENTS, "", text[start:end] * 2]))
        text = text[:start] + middle + text[end:]
    return text


TEXTS = st.one_of(PIECES.map("".join), PIECES.map(" ".join), st.text(max_size=40), mutated(), mutated())


def check_pair(gold: str, pred: str, pool: GraderPool | None = None) -> float:
    """Grade, group and extract two texts every way round; return the CPU seconds of the slowest call."""
    slowest = 0.0
    for one, other in ((gold, pred), (pred, gold), (gold, gold)):
        start = time.process_time()
        verdict = decide(one, other)
        slowest = max(slowest, time.process_time() - start)
        if isinstance(verdict, Passed):
            assert one != other
            if pool is not None:
                given_grade = grade(one, other, pool=pool)
                assert given_grade.outcome in ("correct", "wrong", "grader_error")
        elif one.strip():
            assert verdict.outcome in ("correct", "wrong", "no_answer", "grader_error")
            assert one != other or verdict.outcome == "correct"
    start = time.process_time()
    classes = group_answers([gold, pred, gold], symbolic=False)
    assert classes[0] == classes[2] == 0
    answer = extract_answer(f"{gold} {pred}")
    assert answer is None or 0 <= answer.span[0] < answer.span[1] <= len(gold) + len(pred) + 1
    grade(gold, pred, grader="string")
    slowest = max(slowest, time.process_time() - start)
    assert slowest < HANG_SECONDS, "a hang"
    return slowest


@given(TEXTS, TEXTS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_pair_of_texts_gets_a_verdict(gold: str, pred: str) -> None:
    check_pair(gold, pred)


@given(TEXTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_cut_or_padded_text_gets_a_verdict(text: str) -> None:
    check_pair(text, text[: len(text) // 2])
    check_pair(text, f"{text} {text}")


def resident() -> float:
    """The resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_ten_minutes_of_fuzz_without_exception_hang_or_growth() -> None:
    """Ten minutes of CPU time. Every text that no rule reads goes to a worker process, too."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc for the resident memory")
    budget = float(os.environ.get("RSTAR_EVAL_FUZZ_SECONDS", "600"))
    count = 0
    slowest = 0.0
    memory: list[float] = []
    with GraderPool(workers=1, seconds=2.0) as pool:

        @given(TEXTS, TEXTS)
        @settings(max_examples=4_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def run(gold: str, pred: str) -> None:
            nonlocal count, slowest
            count += 1
            slowest = max(slowest, check_pair(gold, pred, pool if count % 20 == 0 else None))

        begin = time.process_time()
        while time.process_time() - begin < budget:
            run()
            memory.append(resident())
    settled = memory[min(len(memory) - 1, len(memory) // 4)]
    seconds = time.process_time() - begin
    print(
        f"{count} pairs in {seconds:.0f} s of CPU time, slowest call {slowest:.2f} s; resident memory "
        f"{memory[0]:.0f} MiB after the first round, {settled:.0f} after a quarter, {memory[-1]:.0f} at the end"
    )
    assert memory[-1] - settled < GROWTH_MIB
