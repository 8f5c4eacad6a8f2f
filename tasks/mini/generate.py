"""Generate problems of the mini world: chains of relations between people's counts, and two families of other kinds.

Difficulty is the number of composed operations: level 1 has one, level 2 two, level 3 three, level 4 three with the
weights of the rare traps tripled, level 5 four. `contest` has as many as level 5 with rare traps as in level 4, and
answers from 0 to 999; `olympiad` five or six and then a fraction; for training only, `aime` has five or six with rare
traps as in level 4, `chain` three to six without rare traps and `drill` one that is a rare trap. A problem is a pure
function of (version, split, level, seed, place), so that a longer list begins with the shorter one, and answers come
from computing the plan.

Splits are disjoint by construction: the first sentence (who has how many of what) belongs to one split only, by its
checksum. `tests/tasks` checks it on the texts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from rstar_eval.errors import UserError
from rstar_eval.tasks.mini import college, gaokao
from rstar_eval.tasks.mini.items import ItemStep, MiniItem, PlanStep
from rstar_eval.tasks.mini.relations import (
    ENDINGS,
    FRACTIONS,
    LARGEST,
    RELATIONS,
    Ending,
    Numbers,
    Relation,
    Tier,
    compiled,
)
from rstar_eval.tasks.mini.splits import SPLIT_SHARES, Split, belongs

VERSION = "mini-v2"

NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack",
    "Kate", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor",
)  # fmt: skip
THINGS = (
    ("marble", "marbles"), ("sticker", "stickers"), ("coin", "coins"), ("shell", "shells"), ("stamp", "stamps"),
    ("card", "cards"), ("bead", "beads"), ("pencil", "pencils"), ("button", "buttons"), ("stone", "stones"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """What a level draws: how many operations (low, high), the weight of each tier, the chance of a sentence that
    is not needed, that of an operation in the question, and which operations."""

    operations: tuple[int, int]
    tiers: dict[Tier, float]
    distraction: float
    ending: float
    endings: tuple[Ending, ...] = ENDINGS


_COMMON: dict[Tier, float] = {"plain": 0.35, "A": 0.35, "B": 0.18, "C": 0.12}
_RARE: dict[Tier, float] = {"plain": 0.35, "A": 0.35, "B": 0.54, "C": 0.36}  # B and C three times
_EASY: dict[Tier, float] = {"plain": 0.6, "A": 0.4, "B": 0.0, "C": 0.0}
_TRAPS: dict[Tier, float] = {"plain": 0.0, "A": 0.0, "B": 0.5, "C": 0.5}

LEVELS: dict[str, LevelSpec] = {
    "1": LevelSpec((1, 1), _COMMON, 0.0, 0.0),
    "2": LevelSpec((2, 2), _COMMON, 0.15, 0.25),
    "3": LevelSpec((3, 3), _COMMON, 0.3, 0.25),
    "4": LevelSpec((3, 3), _RARE, 0.45, 0.25),
    "5": LevelSpec((4, 4), _COMMON, 0.6, 0.25),
    "contest": LevelSpec((4, 4), _RARE, 0.6, 0.25),
    "aime": LevelSpec((5, 6), _RARE, 0.6, 0.25),
    "olympiad": LevelSpec((5, 6), _RARE, 0.6, 1.0, FRACTIONS),
    "chain": LevelSpec((3, 6), _EASY, 0.6, 0.25),
    "drill": LevelSpec((1, 1), _TRAPS, 0.0, 0.0),
}
"""The levels of mini_math, the families of the other mini tasks, and for training `aime` (longer than the task
mini_aime, whose level is `contest`), `chain` (long, easily read) and `drill` (one rare trap)."""
FAMILIES: dict[str, Callable[[Random, Split], MiniItem | None]] = {"college": college.attempt, "gaokao": gaokao.attempt}
"""The families that are about something else than counts, by name as a level's: what draws a problem of each."""


def generate(split: Split, level: int | str, n: int, seed: int) -> tuple[MiniItem, ...]:
    """Return the first `n` problems of a level (of LEVELS, or a family's name), all with different texts.

    The same arguments give the same problems on every machine; another seed gives others, which may overlap with the
    first seed's within a split, never across splits. UserError for an unknown split or level, or n below 0.
    """
    key = str(level)
    if split not in SPLIT_SHARES:
        raise UserError(f"unknown split {split!r}", f"known: {', '.join(SPLIT_SHARES)}")
    if key not in LEVELS and key not in FAMILIES:
        raise UserError(f"unknown level {key!r}", f"known: {', '.join((*LEVELS, *FAMILIES))}")
    if n < 0:
        raise UserError(f"the number of problems is {n}", "allowed: 0 or more")
    items: dict[str, MiniItem] = {}
    place = 0
    while len(items) < n:
        rng = Random(f"{VERSION}|{split}|{key}|{seed}|{place}")
        item = _attempt(rng, split, key) if key in LEVELS else FAMILIES[key](rng, split)
        place += 1
        if item is not None:
            items.setdefault(item.text, item)
    return tuple(items.values())


def interleave(split: Split, levels: Sequence[int | str], n: int, seed: int) -> tuple[MiniItem, ...]:
    """Return `n` problems that go through the levels in turn, so that every prefix is balanced."""
    each = -(-n // len(levels))
    columns = [generate(split, level, each, seed) for level in levels]
    return tuple(item for row in zip(*columns, strict=True) for item in row)[:n]


def _attempt(rng: Random, split: Split, level: str) -> MiniItem | None:
    """Return one problem, or None where the draw led nowhere (a count out of range, a trap without effect)."""
    spec = LEVELS[level]
    things = rng.choice(THINGS)
    people = rng.sample(NAMES, 9)
    base = _base(rng, split, people[0], things[1])
    counts = [base]
    operations = rng.randint(*spec.operations)
    ends = operations > 1 and rng.random() < spec.ending
    sentences = [f"{people[0]} has {base} {things[1]}."]
    draws: list[_Draw] = []
    for _ in range(operations - ends):
        draw = _relation(rng, spec, counts, tuple(d.relation.name for d in draws if d.relation))
        if draw is None:
            return None
        place = len(counts)
        sentences.append(
            draw.relation.sentence(people[place - 1], people[place], people[draw.earlier], things, draw.numbers)
        )
        counts.append(draw.value)
        draws.append(draw)
    _distract(rng, spec, sentences, people, things, len(counts))
    last = len(counts) - 1
    question = f"How many {things[1]} does {people[last]} have?"
    ending: tuple[Ending, int, Numbers] | None = None
    if ends:
        ending = _ending(rng, spec, counts)
        if ending is None:
            return None
        question = ending[0].text.format(P=people[last], W=people[ending[1]], o=things[1], k=ending[2][0])
    return _assemble(level, " ".join([*sentences, question]), people, base, draws, ending)


@dataclass(frozen=True, slots=True)
class _Draw:
    relation: Relation
    numbers: Numbers
    earlier: int
    value: int


def _base(rng: Random, split: Split, person: str, things: str) -> int:
    """Return a first count whose sentence belongs to `split`."""
    while True:
        base = rng.randint(6, 96)
        if belongs(f"{person} has {base} {things}.", split):
            return base


@cache
def _of_tier(tier: Tier) -> tuple[Relation, ...]:
    return tuple(relation for relation in RELATIONS if relation.tier == tier)


def _relation(rng: Random, spec: LevelSpec, counts: list[int], used: tuple[str, ...]) -> _Draw | None:
    x = counts[-1]
    for _ in range(20):
        tier = rng.choices(tuple(spec.tiers), tuple(spec.tiers.values()))[0]
        relation = rng.choice(_of_tier(tier))
        if relation.name in used or (relation.needs_earlier and len(counts) < 2):
            continue
        earlier = rng.randrange(len(counts) - 1) if relation.needs_earlier else 0
        numbers = relation.draw(rng, x, counts[earlier])
        if numbers is None:
            continue
        value = compiled(relation.right)(x, counts[earlier], *numbers)
        if 1 <= value <= LARGEST and value not in counts:  # an operation that undoes another is a short cut
            return _Draw(relation, numbers, earlier, value)
    return None


def _ending(rng: Random, spec: LevelSpec, counts: list[int]) -> tuple[Ending, int, Numbers] | None:
    for _ in range(8):
        ending = rng.choice(spec.endings)
        earlier = rng.randrange(len(counts) - 1)
        if ending.name == "difference" and earlier == len(counts) - 2:
            continue  # the last sentence may state it already
        numbers = ending.draw(rng, counts[-1], counts[earlier])
        if numbers is not None:
            return ending, earlier, numbers
    return None


def _distract(
    rng: Random, spec: LevelSpec, sentences: list[str], people: list[str], things: tuple[str, str], known: int
) -> None:
    """Add up to two sentences that are true but not needed, anywhere after the first sentence."""
    for spare in (known, known + 1):
        if rng.random() >= spec.distraction:
            return
        number, someone = rng.randint(3, 40), people[rng.randrange(known)]
        other = rng.choice([pair[1] for pair in THINGS if pair != things])
        sentence = rng.choice(
            (
                f"{people[spare]} has {number} {things[1]}.",
                f"{people[spare]} has {number} more {things[1]} than {someone}.",
                f"{someone} also has {number} {other}.",
                f"{someone} is {number} years old.",
            )
        )
        sentences.insert(rng.randint(1, len(sentences)), sentence)


def _assemble(
    level: str,
    text: str,
    people: list[str],
    base: int,
    draws: list[_Draw],
    ending: tuple[Ending, int, Numbers] | None,
) -> MiniItem | None:
    """Compute the answers; None if the answer is out of range or one of the traps, alone, changes nothing."""
    traps = [place for place, draw in enumerate(draws) if draw.relation.wrong]
    answer = _compute(base, draws, ending, frozenset())
    if answer > LARGEST:
        return None
    try:
        if any(_compute(base, draws, ending, frozenset({place})) == answer for place in traps):
            return None
        wrong = _compute(base, draws, ending, frozenset(traps)) if traps else None
    except ZeroDivisionError:  # a wrong count of 0 before a fraction: wrong plans must run
        return None
    if wrong == answer:  # two traps can cancel each other
        return None
    steps = [_step(people, base, place, draw) for place, draw in enumerate(draws)]
    if ending:
        steps.append(_last_step(people, len(draws), ending))
    return MiniItem(text, str(answer), level, tuple(steps), None if wrong is None else str(wrong))


def _compute(base: int, draws: list[_Draw], ending: tuple[Ending, int, Numbers] | None, fallen: frozenset[int]) -> int:
    """Return the answer when the traps at the places `fallen` are fallen for. A fraction may be returned as such."""
    counts = [base]
    for place, draw in enumerate(draws):
        relation = draw.relation
        expression = relation.wrong if place in fallen and relation.wrong else relation.right
        counts.append(compiled(expression)(counts[-1], counts[draw.earlier], *draw.numbers))
    if ending is None:
        return counts[-1]
    kind, earlier, numbers = ending
    return compiled(kind.right)(counts[-1], counts[earlier], *numbers)


def _step(people: list[str], base: int, place: int, draw: _Draw) -> ItemStep:
    previous, new, earlier = (people[i].lower() for i in (place, place + 1, draw.earlier))
    relation = draw.relation

    def plan_step(expression: str) -> PlanStep:
        code = _code(expression, new, previous, earlier, draw.numbers)
        if place == 0:
            code = f"{previous} = {base}\n{code}"
        return PlanStep(f"Find how many {people[place + 1]} has.", code, new)

    wrong = plan_step(relation.wrong) if relation.wrong else None
    return ItemStep(plan_step(relation.right), wrong, relation.name, relation.tier)


def _last_step(people: list[str], last: int, ending: tuple[Ending, int, Numbers]) -> ItemStep:
    kind, earlier, numbers = ending
    code = _code(kind.right, kind.result, people[last].lower(), people[earlier].lower(), numbers)
    return ItemStep(PlanStep(f"Find the {kind.result}.", code, kind.result), None, kind.name, "plain")


def _code(expression: str, result: str, x: str, w: str, numbers: Numbers) -> str:
    code = f"{result} = {expression.format(x=x, w=w, k=numbers[0], m=numbers[1])}"
    if "math." in expression:
        return f"import math\n{code}"
    return f"from fractions import Fraction\n{code}" if "Fraction" in expression else code
