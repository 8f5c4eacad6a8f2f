"""Do two steps compute the same values? Asked of the sandbox, since the steps are model-written code.

A pair of steps that differ in names or comments alone teaches a reward model nothing, or noise.
"""

from __future__ import annotations

import ast
import asyncio
from types import TracebackType

from rstar_eval.solver.executor import StepExecutor, start_executor
from rstar_eval.solver.protocols import ExecutorSession
from rstar_eval.solver.tree import Node, path_to
from rstar_eval.training.trees import TrainingTree

_STEP_SECONDS = 2.0


class ValueProbe:
    """Runs steps again and compares the values that they assign and what they print. A context manager; calling it is
    a `pairs.SameValues`. One session of the sandbox is open at a time, so pairs should come tree by tree."""

    def __init__(self, isolation: str | None = None) -> None:
        """Start a sandbox (`isolation`: the level to demand, None: the strongest here). UserError if there is none."""
        self._loop = asyncio.new_event_loop()
        try:
            self._executor: StepExecutor = self._loop.run_until_complete(
                start_executor(isolation, workers=1, step_seconds=_STEP_SECONDS)
            )
        except BaseException:
            self._loop.close()
            raise
        self._tree: TrainingTree | None = None
        self._session: ExecutorSession | None = None
        self._found: dict[str, str | None] = {}

    def __enter__(self) -> ValueProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, tree: TrainingTree, one: Node, other: Node) -> bool:
        """Return whether both steps run, assign equal values (names apart) and print the same."""
        if one.output != other.output:
            return False  # seen by the search already
        if tree is not self._tree:
            self._loop.run_until_complete(self._open(tree))
        left = self._loop.run_until_complete(self._values(one))
        return left is not None and left == self._loop.run_until_complete(self._values(other))

    def close(self) -> None:
        """Stop the sandbox. May be called twice."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._shut())
            self._loop.close()

    async def _open(self, tree: TrainingTree) -> None:
        if self._session is not None:
            await self._session.close()
        self._tree, self._found = tree, {}
        self._session = await self._executor.open(tree.source.problem or "values")

    async def _shut(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._executor.close()

    async def _values(self, node: Node) -> str | None:
        """Return the values of a step as text, None if its code or the code before it does not run."""
        if node.tag not in self._found:
            self._found[node.tag] = await self._run(node)
        return self._found[node.tag]

    async def _run(self, node: Node) -> str | None:
        assert self._session is not None, "a session is opened before a step is asked for"
        names = assigned(node.code)
        if names is None:
            return None
        at: int | None = None
        printed = ""
        for step in path_to(node):
            if step.code.strip():
                run = await self._session.run(at, step.code)
                if run.status != "ok":
                    return None
                at, printed = run.node, run.output if step is node else ""
        if not names:
            return printed
        probe = await self._session.run(at, f"print(sorted(repr(v) for v in ({', '.join(names)},)))")
        return f"{printed}\x1f{probe.output}" if probe.status == "ok" else None


def assigned(code: str) -> list[str] | None:
    """Return the names that a step's top level binds to values, sorted; None if it is no Python.

    >>> assigned("a, b = 1, 2\\nfor i in range(3): c = i")
    ['a', 'b', 'c', 'i']
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: set[str] = set()
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        scopes = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        if not isinstance(node, (*inner, *scopes)):
            stack.extend(ast.iter_child_nodes(node))
    return sorted(found)
