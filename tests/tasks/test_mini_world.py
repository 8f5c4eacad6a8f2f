"""The generated problems: right answers, working traps, fixed sets, disjoint splits, balanced levels."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations
from math import comb
from random import Random

import pytest

from rstar_eval.errors import UserError
from rstar_eval.tasks import load_task, show_examples, task_spec, task_status
from rstar_eval.tasks.mini import (
    FAMILIES,
    LEVELS,
    VERSION,
    MiniItem,
    PlanStep,
    content_hash,
    fixed_items,
    fixed_problems,
    generate,
    interleave,
    plan_code,
)
from rstar_eval.tasks.mini.relations import RELATIONS, Relation, compiled
from rstar_eval.tasks.spec import Generator

PINNED = {
    "mini_math": "9f8b46132ce1545c77e1ecb7ff0a72b9931e4b5725695a010c68d0474e90cf80",
    "mini_aime": "01633e7425e6d86608effbc57630dc5ae09a897ff56d42ac910b5f69a5e050b6",
    "mini_olympiad": "45f7a8c71ab3aaef78583a4a53458b91838b2c2f0f4c3c25e08b5bf50922bd4f",
    "mini_college": "23b67bf7e76246185ba7ed9b8d1918b9cb6580987336b57e8f150a90e4e1708a",
    "mini_gaokao": "f67a8b1e504fc931342605d9ec8bab3fc7d044d66890e43ae4038f187abb70f1",
    "mini_validation": "72701726ea9a3c0ef076826e4ea6f90cf2f6c7d3b8d76d53cb3e71428f51235f",
}
ITEMS = {level: generate("validation", level, 150, 5) for level in (*LEVELS, *FAMILIES)}
ALL = [item for items in ITEMS.values() for item in items]


def run(plan: tuple[PlanStep, ...]) -> str:
    """The number that a plan prints, run as a solver's code would be."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(plan_code(plan), {})  # noqa: S102 - the generator's own code
    return output.getvalue().strip()


@pytest.mark.parametrize("level", ITEMS)
def test_reference_plan_gives_the_answer_and_wrong_plan_runs_to_another(level: str) -> None:
    for item in ITEMS[level]:
        assert run(item.plan) == item.answer, item.text
        if item.wrong_plan is not None:
            assert run(item.wrong_plan) == item.wrong_answer
            assert item.wrong_answer != item.answer, item.text


def test_each_trap_alone_changes_the_answer() -> None:
    for item in ALL:
        for place, step in enumerate(item.steps):
            if step.wrong is not None:
                mixed = list(item.plan)
                mixed[place] = step.wrong
                assert run(tuple(mixed)) != item.answer, (item.text, step.relation)


@pytest.mark.parametrize(("level", "counts"), [("1", {1}), ("2", {2}), ("3", {3}), ("4", {3}), ("5", {4})])
def test_level_is_the_number_of_operations(level: str, counts: set[int]) -> None:
    assert {len(item.steps) for item in ITEMS[level]} == counts


def test_rare_traps_are_more_frequent_in_level_4_than_in_level_3() -> None:
    def rare(level: int) -> float:
        items = generate("validation", level, 600, 9)
        return sum(step.tier in ("B", "C") for item in items for step in item.steps) / (3 * len(items))

    assert rare(4) > 1.4 * rare(3)


def test_all_relations_occur() -> None:
    used = {step.relation for level in LEVELS for item in ITEMS[level] for step in item.steps}
    assert {relation.name for relation in RELATIONS} <= used


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_relation_yields_whole_numbers_and_its_sentence_states_every_number(relation: Relation) -> None:
    rng = Random(3)
    drawn = 0
    for _ in range(400):
        x, w = rng.randint(2, 300), rng.randint(2, 300)
        numbers = relation.draw(rng, x, w)
        if numbers is None:
            continue
        drawn += 1
        assert isinstance(compiled(relation.right)(x, w, *numbers), int)
        sentence = relation.sentence("Anna", "Ben", "Carla", ("coin", "coins"), numbers)
        assert "{" not in sentence
        assert "Anna" in sentence
        assert "Ben" in sentence
        if "{k}" in relation.right:
            assert re.search(rf"\b{numbers[0]}\b", sentence)
    assert drawn > 20


INVERSES = {
    "inverse_fewer": lambda x, y, k, m: x == y - k,
    "inverse_more": lambda x, y, k, m: x == y + k,
    "inverse_times": lambda x, y, k, m: x == m * y,
    "inverse_percent": lambda x, y, k, m: Fraction(x) == y * (1 + Fraction(k, 100)),
    "percent": lambda x, y, k, m: Fraction(y) == x * (1 + Fraction(k, 100)),
    "average": lambda x, y, k, m: Fraction(x + y, 2) == k,
    "boxes_full": lambda x, y, k, m: y * k <= x < (y + 1) * k,
    "boxes_needed": lambda x, y, k, m: (y - 1) * k < x <= y * k,
    "left_over": lambda x, y, k, m: 0 < y < k and (x - y) % k == 0,
    "gaps": lambda x, y, k, m: y == len(list(zip(range(x), range(1, x), strict=False))),
    "posts": lambda x, y, k, m: y == len(range(0, x + 1, k)),
    "inclusive": lambda x, y, k, m: y == len([i for i in range(x + 1) if i >= k]),
    "multiple": lambda x, y, k, m: y == next(i for i in range(k, x * k + 1, k) if i % x == 0),
    "dozens": lambda x, y, k, m: y - x == 12 * k,
    "part": lambda x, y, k, m: y * m == x,
}


@pytest.mark.parametrize("name", INVERSES)
def test_relation_means_what_its_sentence_says(name: str) -> None:
    (relation,) = (relation for relation in RELATIONS if relation.name == name)
    rng = Random(11)
    for _ in range(300):
        x = rng.randint(5, 200)
        numbers = relation.draw(rng, x, 0)
        if numbers is not None:
            y = compiled(relation.right)(x, 0, *numbers)
            assert INVERSES[name](x, y, *numbers), (x, y, numbers)


@pytest.mark.parametrize("name", PINNED)
def test_fixed_set_has_the_pinned_content(name: str) -> None:
    spec = task_spec(name)
    assert spec.generator is not None
    assert spec.generator.version == VERSION == "mini-v2"
    assert spec.generator.split == ("validation" if name == "mini_validation" else "test")
    assert content_hash(fixed_items(spec.generator)) == PINNED[name] == spec.generator.content_sha256
    task = load_task(name)
    assert task.provenance["kind"] == "generated"
    assert task.provenance["sha256"] == PINNED[name]
    status = task_status(name)
    assert status is not None
    assert status.kind == "generated"


def test_mini_math_is_balanced_in_every_prefix() -> None:
    problems = load_task("mini_math").problems
    assert Counter(p.level for p in problems) == dict.fromkeys("12345", len(problems) // 5)
    assert len(problems) >= 400
    assert Counter(p.level for p in problems[:20]) == dict.fromkeys("12345", 4)
    assert len({p.text for p in problems}) == len(problems)


def test_validation_shares_no_problem_with_any_test_set() -> None:
    validation = {p.text for p in load_task("mini_validation").problems}
    assert len(validation) == 1000
    for name in PINNED:
        if name != "mini_validation":
            assert not validation & {p.text for p in load_task(name).problems}


def test_mini_aime_answers_are_integers_from_0_to_999() -> None:
    problems = load_task("mini_aime").problems
    assert len(problems) == 30
    assert all(0 <= int(p.answer) <= 999 for p in problems)
    items = generate("test", "contest", 300, 2024)
    assert [item.text for item in items[:30]] == [p.text for p in problems]
    assert {len(item.steps) for item in items} == {4}
    rare = sum(step.tier in ("B", "C") for item in items for step in item.steps) / 1200
    assert 0.4 < rare < 0.6, "as often as in level 4"


def test_mini_olympiad_answers_are_fractions_in_lowest_terms() -> None:
    for p in load_task("mini_olympiad").problems:
        assert str(Fraction(p.answer)) == p.answer


@pytest.mark.parametrize("family", FAMILIES)
def test_family_has_all_its_kinds_and_mostly_traps(family: str) -> None:
    items = generate("train", family, 1500, 3)
    kinds = Counter(step.relation for item in items for step in item.steps)
    assert len(kinds) == {"college": 17, "gaokao": 19}[family]
    assert min(kinds.values()) >= 15
    assert 0.7 < sum(item.wrong_answer is not None for item in items) / len(items) < 0.95
    assert all(item.level == family and abs(int(item.answer)) <= 9999 for item in items)


def test_college_answers_are_those_of_calculus() -> None:
    """Beside its plan: slopes, integrals and averages from differences and sums of small pieces."""
    checked = Counter[str]()
    for item in ITEMS["college"]:
        if len(item.steps) != 2:
            continue
        body = item.text.split("Let f(x) = ")[1].split(". What")[0].replace("^", "**")
        body = re.sub(r"(\d)x", r"\1*x", body)

        def f(x: float, body: str = body) -> float:
            return float(eval(body, {"x": x}))  # noqa: S307 - the generator's own polynomial

        numbers = [int(n) for n in re.findall(r"-?\d+", item.text.split("What is ")[1])]
        kind = item.steps[-1].relation
        if kind == "slope":
            found = (f(numbers[0] + 1e-4) - f(numbers[0] - 1e-4)) / 2e-4
        elif kind in ("integral", "average"):
            a, b = numbers
            pieces = 4000
            wide = (b - a) / pieces
            found = sum(f(a + (i + 0.5) * wide) for i in range(pieces)) * wide / (b - a if kind == "average" else 1)
        elif kind == "smallest":
            found = min(f(i / 8) for i in range(-400, 400))
        elif kind in ("growth", "mean_slope"):
            a, b = numbers
            found = (f(b) - f(a)) / (b - a if kind == "mean_slope" else 1)
        else:
            continue
        assert found == pytest.approx(int(item.answer), abs=1e-2), item.text
        checked[kind] += 1
    assert set(checked) >= {"slope", "average", "growth", "mean_slope"}, checked


def test_gaokao_answers_are_counted() -> None:
    """Beside its plan: the filters as another reader would write them."""
    tests = {
        r"Keep the multiples of (\d+)\.": lambda n, k: n in range(0, 999, k),
        r"(?:Remove|Keep all but) the multiples of (\d+)\.": lambda n, k: n not in range(0, 999, k),
        r"Keep the numbers below (\d+)\.": lambda n, k: n in range(k),
        r"Keep the numbers up to (\d+)\.": lambda n, k: n in range(k + 1),
        r"Keep those whose double is above (\d+)\.": lambda n, k: n + n - k > 0,
        r"Keep those that leave (\d+) when divided by (\d+)\.": lambda n, r, k: n in range(r, 999, k),
        r"Keep what is a multiple of (\d+) or of (\d+)\.": lambda n, k, m: n in {*range(0, 999, k), *range(0, 999, m)},
        r"Keep what is a multiple of only one of (\d+) and (\d+)\.": lambda n, k, m: (
            n in {*range(0, 999, k)} ^ {*range(0, 999, m)}
        ),
    }
    asked = {
        "How many numbers are left?": len,
        "What is their sum?": sum,
        "What is the largest of them?": lambda s: sorted(s)[-1],
        "How far is the largest from the smallest?": lambda s: sorted(s)[-1] - sorted(s)[0],
        "How many ordered pairs of two different ones are there?": lambda s: len([*permutations(s, 2)]),
        "In how many ways can two of them be chosen?": lambda s: len([*combinations(s, 2)]),
        "How many subsets that are not empty do they have?": lambda s: sum(comb(len(s), k) for k in range(1, 13)),
    }
    for item in ITEMS["gaokao"]:
        *sentences, question = re.findall(r"[^.?]+[.?]", item.text)
        a, b = map(int, re.findall(r"\d+", sentences[0]))
        numbers = {*range(a, b + 1)} - ({a, b} if "between" in sentences[0] else set())
        for sentence in sentences[1:]:
            if more := re.search(r"Add the whole numbers from (\d+) to (\d+)", sentence):
                numbers |= {*range(int(more[1]), int(more[2]) + 1)}
                continue
            [(match, test)] = [(found, test) for form, test in tests.items() if (found := re.search(form, sentence))]
            numbers = {n for n in numbers if test(n, *map(int, match.groups()))}
        assert asked[question.strip()](numbers) == int(item.answer), item.text


def test_splits_share_no_text_and_no_first_sentence() -> None:
    seen: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        items = [
            item
            for level in ("1", "2", "4", *FAMILIES)
            for seed in (1, 2)
            for item in generate(split, level, 400, seed)
        ]
        seen[split] = {item.text for item in items} | {item.text.split(".")[0] for item in items}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_generation_is_a_function_of_its_arguments_and_grows_at_the_end() -> None:
    assert generate("train", 3, 40, 7) == generate("train", "3", 60, 7)[:40]
    assert generate("train", 3, 40, 7) != generate("train", 3, 40, 8)
    assert interleave("train", (1, 2, 3), 7, 1) == interleave("train", (1, 2, 3), 30, 1)[:7]
    assert generate("train", 1, 0, 0) == ()


def test_problems_carry_no_plan() -> None:
    problem = load_task("mini_math").problems[3]
    item = generate("test", 4, 1, 2024)[0]
    assert isinstance(item, MiniItem)
    assert problem.text == item.text
    assert all(step.code not in repr(problem) for step in item.plan)


@pytest.mark.parametrize(
    ("split", "level", "n", "match"),
    [
        ("dev", 1, 1, "unknown split 'dev'.*train"),
        ("test", 6, 1, "unknown level '6'.*1, 2, 3, 4, 5"),
        ("test", 1, -1, "number of problems is -1"),
    ],
)
def test_bad_arguments_are_user_errors(split: str, level: int, n: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        generate(split, level, n, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"content_sha256": "0" * 64}, "new version"),
        ({"version": "mini-v0"}, "mini-v2"),
        ({"family": "level"}, "unknown mini family 'level'"),
    ],
)
def test_generated_task_that_does_not_match_its_file_is_refused(change: dict[str, str], match: str) -> None:
    values: dict[str, object] = {"family": "levels", "version": VERSION, "content_sha256": PINNED["mini_math"]}
    values |= change
    generator = Generator(split="test", n=5, seed=1, **values)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=match):
        fixed_problems("t", generator)


def test_examples_of_a_level_show_question_answer_plan_and_trap() -> None:
    text = show_examples("mini_math", 4, 3)
    assert len(re.findall(r"^\[\d+\] [0-9a-f]{16}, level 4$", text, re.M)) == 3
    assert text.count("plan:") == 3
    assert "plan that falls for" in text
    assert "answer: " in text


@pytest.mark.parametrize(
    ("name", "level", "n", "match"),
    [
        ("mini_math", 7, 1, "no level '7'.*1, 2, 3, 4, 5"),
        ("mini_math", 1, 0, "number of examples is 0"),
        ("mini_mth", 1, 1, "did you mean mini_math"),
    ],
)
def test_examples_that_do_not_exist(name: str, level: int, n: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        show_examples(name, level, n)
