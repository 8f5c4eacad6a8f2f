"""The few-shot prompt of the `chat` format. Problems and solutions were written for this project; none is taken from
a benchmark."""

from __future__ import annotations

from rstar_eval.solver.types import Message

INSTRUCTION = (
    "You solve math problems with Python. Write one Python code block made of steps. Every step begins with a comment "
    '"# Step k: ..." and computes its numbers in code. The last step prints the result. After you see the output of '
    "the code, give the final answer in \\boxed{}."
)

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "A bakery bakes 14 trays with 9 rolls on each tray. It sells 96 rolls before noon and gives a third of the "
        "rest to a school. How many rolls does the school get?",
        """```python
# Step 1: Find how many rolls are baked.
baked = 14 * 9
# Step 2: Subtract the rolls that are sold before noon.
rest = baked - 96
# Step 3: Take a third of the rest.
school = rest // 3
# Step 4: Print the result.
print(school)
```
```output
10
```
The answer is \\boxed{10}.""",
    ),
    (
        "The sum of two numbers is 31 and the sum of their squares is 541. What is the product of the two numbers?",
        """```python
# Step 1: Write the sum and the sum of squares as equations.
from sympy import symbols, solve
x, y = symbols("x y")
equations = [x + y - 31, x**2 + y**2 - 541]
# Step 2: Solve the equations for the two numbers.
solutions = solve(equations, [x, y])
a, b = solutions[0]
# Step 3: Multiply the two numbers and print the product.
print(a * b)
```
```output
210
```
The answer is \\boxed{210}.""",
    ),
    (
        "A fair coin is tossed five times. What is the probability of at least four heads? Give a common fraction.",
        """```python
# Step 1: Count all outcomes and the outcomes with four or five heads.
from math import comb
total = 2**5
favourable = comb(5, 4) + comb(5, 5)
# Step 2: Divide the counts exactly and print the fraction.
from fractions import Fraction
print(Fraction(favourable, total))
```
```output
3/16
```
The answer is \\boxed{\\frac{3}{16}}.""",
    ),
)


def messages(question: str) -> tuple[Message, ...]:
    """Return the chat up to and with the user's turn that asks `question`."""
    turns = [Message("system", INSTRUCTION)]
    for asked, reply in EXAMPLES:
        turns += [Message("user", asked), Message("assistant", reply)]
    return (*turns, Message("user", question))
