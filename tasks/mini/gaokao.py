"""The family `gaokao`: sets of whole numbers, ranges and counting.

A problem takes a range, keeps or removes some of its numbers one to three times, and asks for a count, a sum, a
difference, or a number of choices. Traps: ends that are left out, "or" against "and", "up to" against "below",
ordered pairs, choices, subsets.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rstar_eval.tasks.mini.items import MiniItem
from rstar_eval.tasks.mini.operations import Operation, assemble, pick
from rstar_eval.tasks.mini.relations import Tier
from rstar_eval.tasks.mini.splits import Split, belongs

Numbers = frozenset[int]
WEIGHTS: dict[Tier, float] = {"plain": 0.45, "A": 0.25, "B": 0.15, "C": 0.15}
"""Weights of the tiers among filters and among questions: a design choice, as everywhere in the mini world."""


def attempt(rng: Random, split: Split) -> MiniItem | None:
    """Return one problem of `split`, or None where the draw led nowhere."""
    start = _start(rng, split)
    operations = [start]
    state: Numbers = start.apply(None)
    for _ in range(rng.choices((1, 2, 3), (0.4, 0.4, 0.2))[0]):
        one = pick(rng, WEIGHTS, _filters(rng, state))
        if one.name in {other.name for other in operations}:
            return None
        state = one.apply(state)
        if len(state) < 2:
            return None
        operations.append(one)
    operations.append(pick(rng, WEIGHTS, _questions(len(state))))
    return assemble("gaokao", operations)


def _start(rng: Random, split: Split) -> Operation:
    while True:
        low = rng.randint(2, 60)
        high = low + rng.randint(8, 39)
        if rng.random() < 0.7:
            sentence = f"Take the whole numbers from {low} to {high}."
            one = Operation(
                "from_to", "plain", sentence, "Take the numbers.", "s", f"s = set(range({low}, {high} + 1))",
                _range(low, high + 1),
            )  # fmt: skip
        else:
            sentence = f"Take the whole numbers between {low} and {high}, without these two."
            one = Operation(
                "between", "A", sentence, "Take the numbers.", "s", f"s = set(range({low} + 1, {high}))",
                _range(low + 1, high),
                f"s = set(range({low}, {high} + 1))",
                _range(low, high + 1),
            )  # fmt: skip
        if belongs(sentence, split):
            return one


def _range(start: int, stop: int) -> Callable[[object], Numbers]:
    return lambda _: frozenset(range(start, stop))


def _keep(
    name: str,
    tier: Tier,
    sentence: str,
    right: tuple[str, Callable[[int], bool]],
    wrong: tuple[str, Callable[[int], bool]] | None = None,
) -> Operation:
    """Return the operation that keeps the numbers n with a property, given as code and as a function."""

    def code(condition: str) -> str:
        return f"s = {{n for n in s if {condition}}}"

    def kept(test: Callable[[int], bool]) -> Callable[[Numbers], Numbers]:
        return lambda state: frozenset(n for n in state if test(n))

    return Operation(
        name, tier, sentence, "Keep what fits.", "s", code(right[0]), kept(right[1]),
        None if wrong is None else code(wrong[0]), None if wrong is None else kept(wrong[1]),
    )  # fmt: skip


def _filters(rng: Random, state: Numbers) -> list[Operation]:
    k, m = rng.sample(range(2, 10), 2)
    r = rng.randrange(1, k)
    edge = rng.choice(sorted(state))
    low = rng.randint(2, 60)
    high = low + rng.randint(3, 12)
    fits, also = f"n % {k} == 0", f"n % {m} == 0"
    more = Operation(
        "add", "plain", f"Add the whole numbers from {low} to {high}.", "Add the numbers.", "s",
        f"s = s | set(range({low}, {high} + 1))", lambda s: s | frozenset(range(low, high + 1)),
    )  # fmt: skip
    return [
        more,
        _keep("multiples", "plain", f"Keep the multiples of {k}.", (fits, lambda n: n % k == 0)),
        _keep("no_multiples", "plain", f"Remove the multiples of {k}.", (f"n % {k} != 0", lambda n: n % k != 0)),
        _keep("below", "plain", f"Keep the numbers below {edge}.", (f"n < {edge}", lambda n: n < edge)),
        _keep(
            "remainder", "plain", f"Keep those that leave {r} when divided by {k}.",
            (f"n % {k} == {r}", lambda n: n % k == r),
        ),
        _keep(
            "all_but", "A", f"Keep all but the multiples of {k}.", (f"n % {k} != 0", lambda n: n % k != 0),
            (fits, lambda n: n % k == 0),
        ),
        _keep(
            "up_to", "A", f"Keep the numbers up to {edge}.", (f"n <= {edge}", lambda n: n <= edge),
            (f"n < {edge}", lambda n: n < edge),
        ),
        _keep(
            "double", "B", f"Keep those whose double is above {edge}.", (f"2 * n > {edge}", lambda n: 2 * n > edge),
            (f"n > {edge}", lambda n: n > edge),
        ),
        _keep(
            "either", "B", f"Keep what is a multiple of {k} or of {m}.",
            (f"{fits} or {also}", lambda n: n % k == 0 or n % m == 0),
            (f"{fits} and {also}", lambda n: n % k == 0 and n % m == 0),
        ),
        _keep(
            "only_one", "C", f"Keep what is a multiple of only one of {k} and {m}.",
            (f"({fits}) != ({also})", lambda n: (n % k == 0) != (n % m == 0)),
            (f"{fits} or {also}", lambda n: n % k == 0 or n % m == 0),
        ),
    ]  # fmt: skip


def _ask(
    name: str,
    tier: Tier,
    sentence: str,
    right: tuple[str, Callable[[Numbers], int]],
    wrong: tuple[str, Callable[[Numbers], int]] | None = None,
) -> Operation:
    return Operation(
        name, tier, sentence, "Find the answer.", "answer", f"answer = {right[0]}", right[1],
        None if wrong is None else f"answer = {wrong[0]}", None if wrong is None else wrong[1],
    )  # fmt: skip


def _questions(count: int) -> list[Operation]:
    """Return the questions about a set of `count` numbers."""
    found = [
        _ask("count", "plain", "How many numbers are left?", ("len(s)", len)),
        _ask("sum", "plain", "What is their sum?", ("sum(s)", sum)),
        _ask("largest", "plain", "What is the largest of them?", ("max(s)", max)),
        _ask(
            "spread", "A", "How far is the largest from the smallest?",
            ("max(s) - min(s)", lambda s: max(s) - min(s)), ("len(s)", len),
        ),
        _ask(
            "pairs", "B", "How many ordered pairs of two different ones are there?",
            ("len(s) * (len(s) - 1)", lambda s: len(s) * (len(s) - 1)), ("len(s) * len(s)", lambda s: len(s) ** 2),
        ),
        _ask(
            "choices", "C", "In how many ways can two of them be chosen?",
            ("len(s) * (len(s) - 1) // 2", lambda s: len(s) * (len(s) - 1) // 2),
            ("len(s) * (len(s) - 1)", lambda s: len(s) * (len(s) - 1)),
        ),
    ]  # fmt: skip
    if count <= 12:
        found.append(
            _ask(
                "subsets", "C", "How many subsets that are not empty do they have?",
                ("2 ** len(s) - 1", lambda s: 2 ** len(s) - 1), ("2 ** len(s)", lambda s: 2 ** len(s)),
            )
        )  # fmt: skip
    return found
