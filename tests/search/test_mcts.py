"""Monte Carlo tree search on spaces whose best answer is known, and its rules on hand-made expansions."""

from __future__ import annotations

import pytest

from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.mcts import mcts
from rstar_eval.solver.tree import prefix_of, walk
from rstar_eval.solver.types import Completion, SampleResult


class Written:
    """A policy that writes what a table says for each solution so far, with the stop string after a blank bar."""

    def __init__(self, table, policy_format):
        self.name, self.format, self.table, self.asked = "written", policy_format, table, []

    async def sample(self, request):
        self.asked.append(request.prefix)
        texts = self.table.get(request.prefix, [])
        completions = []
        for item in texts[: request.n]:
            text, _, stop = item.rpartition("|")
            completions.append(Completion(text, "stop" if stop else "length", stop or None, 5))
        return SampleResult(tuple(completions), 1)

    def describe(self):
        return {}

    async def close(self):
        pass


STEP, CLOSE, DONE = "|<end_of_step>", "|<end_of_code>", "|<end_of_answer>"


def written(bench, table):
    return Written(table, bench.World().format)


def bandit(bench, arms, depth=2):
    """A tree of `arms` first steps; the path's end is right with a chance that depends on the first step alone."""

    class Bandit(bench.World):
        def _one(self, request, rng):
            prefix = request.prefix
            if not prefix:
                return Completion(f"<code>\nx = {rng.randrange(len(arms))}\n", "stop", "<end_of_step>", 4)
            if prefix.endswith("<end_of_output>"):
                arm = int(prefix.split("x = ")[1].split("\n")[0])
                answer = "right" if rng.random() < arms[arm] else f"wrong {rng.random()}"
                return Completion(f"\n<answer>\\boxed{{{answer}}}", "stop", "<end_of_answer>", 4)
            if prefix.count("<end_of_step>") < depth:
                return Completion(f"\ny = {rng.randrange(1000)}\n", "stop", "<end_of_step>", 4)
            return Completion(f"\nprint({rng.randrange(1000)})\n", "stop", "<end_of_code>", 4)

    return Bandit


async def is_right(answer):
    return answer == "right"


def share_on_best_arm(bench, world, rollouts):
    """Share of the walks that went to the best arm, with the outcome known (terminal-guided)."""
    policy = bandit(bench, [0.1, 0.2, 0.9, 0.15])(world)
    config = SearchConfig(rollouts=rollouts, candidates=16, c_puct=1.0)
    _, root, _, _ = bench.grow(config, bench.tools(policy, None, is_right), mcts)
    children = {child.code.strip(): child for child in root.children}
    best = children.get("x = 2")
    return None if best is None else (best.walks / root.visits, max(children.values(), key=lambda c: c.walks) is best)


def test_the_best_arm_of_a_bandit_tree_is_found_with_probability_rising_to_one(bench):
    found = {}
    for rollouts in (4, 16, 64, 128):
        runs = [one for world in range(12) if (one := share_on_best_arm(bench, world, rollouts)) is not None]
        found[rollouts] = (sum(best for _, best in runs) / len(runs), sum(share for share, _ in runs) / len(runs))
    probabilities = [found[rollouts][0] for rollouts in (4, 16, 64, 128)]
    shares = [found[rollouts][1] for rollouts in (4, 16, 64, 128)]
    assert probabilities == sorted(probabilities)
    assert probabilities[-1] == 1.0
    assert shares[1] < shares[2] < shares[3]
    assert shares[-1] > 0.7


def test_a_faithful_reward_model_finds_the_right_answer_with_fewer_walks(bench):
    """With values that tell the good first step, one walk is right far more often than with none."""

    def value(text):
        return 0.8 if "x = 2\n" in text else -0.8

    right = {"judged": 0, "blind": 0}
    for world in range(40):
        for kind in right:
            reward = bench.Judge(0, value) if kind == "judged" else None
            tools = bench.tools(bandit(bench, [0.1, 0.2, 0.9, 0.15])(world), reward)
            result = bench.run(SearchConfig(rollouts=1, candidates=16), tools)
            right[kind] += result.trajectories[0].answer == "right"
    assert right["judged"] >= right["blind"] + 10


def test_a_walk_takes_a_failed_step_only_where_nothing_else_is(bench):
    table = {
        "": [f"<code>\nz = 1/0\n{STEP}", f"<code>\nx = 1\n{STEP}", f"no code{STEP}"],
        "<code>\nx = 1\n<end_of_step>": [f"\nz = 1/0\n{STEP}", f"\nimport nosuchmodule\n{STEP}"],
    }
    trajectories, root, end, _ = bench.grow(SearchConfig(rollouts=5), bench.tools(written(bench, table)), mcts)
    assert [one.end for one in trajectories] == ["errors"]
    assert end == "exhausted"
    failed, chosen, malformed = root.children
    assert (failed.end, failed.visits, failed.status) == ("errors", 0, "error")
    assert failed.error == "ZeroDivisionError: division by zero"
    assert (malformed.end, malformed.visits, malformed.status) == ("malformed", 0, None)
    assert (chosen.visits, chosen.q) == (1, -1.0)
    assert root.q == -1.0


def test_all_answered_candidates_stay_and_each_is_a_trajectory_of_its_own(bench):
    table = {
        "": [f"<code>\nprint(1)\n{CLOSE}"],
        "<code>\nprint(1)\n<end_of_code>\n<output>1<end_of_output>": [
            f"\n<answer>\\boxed{{1}}{DONE}",
            f"\n<answer>\\boxed{{2}}{DONE}",
            f"\n<answer>so \\boxed{{1}}{DONE}",
            f"\n<answer>nothing{DONE}",
        ],
    }
    trajectories, root, end, _ = bench.grow(SearchConfig(rollouts=9), bench.tools(written(bench, table)), mcts)
    assert sorted(str(one.answer) for one in trajectories) == ["1", "1", "2"]
    assert end == "exhausted"
    unreadable = root.children[0].children[3]
    assert (unreadable.end, unreadable.answer, unreadable.closed, unreadable.visits) == ("answer", None, True, 0)


def test_printed_words_are_no_errors(bench):
    class Loud(bench.TinyExecutor):
        async def open(self, key):
            session = await super().open(key)
            run = session.run

            async def loud(parent, code):
                from dataclasses import replace

                return replace(await run(parent, code), output="error: \\boxed{0}\n")

            session.run = loud
            return session

    from rstar_eval.solver.search import Tools

    table = {"": [f"<code>\nprint(1)\n{CLOSE}"]}
    tools = bench.tools(written(bench, table))
    tools = Tools(tools.policy, Loud(), None, tools.group)
    _, root, _, _ = bench.grow(SearchConfig(rollouts=1), tools, mcts)
    (child,) = root.children
    assert (child.status, child.answer, child.text) == (
        "ok",
        None,
        "<code>\nprint(1)\n<end_of_code>\n<output>error: \\boxed{0}<end_of_output>",
    )


def test_the_output_shown_is_everything_that_the_block_printed(bench):
    first = "<code>\nx = 3\nprint(x)\n<end_of_step>"
    shown = first + "\nprint(4)\n<end_of_code>\n<output>3\n4<end_of_output>"
    table = {
        "": [f"<code>\nx = 3\nprint(x)\n{STEP}"],
        first: [f"\nprint(4)\n{CLOSE}"],
        shown: [f"\n<code>\nprint(x)\n{CLOSE}"],
    }
    policy = written(bench, table)
    bench.grow(SearchConfig(rollouts=1), bench.tools(policy), mcts)
    second_block = shown + "\n<code>\nprint(x)\n<end_of_code>\n<output>3<end_of_output>"
    assert policy.asked == ["", first, shown, second_block]  # names live on in the next block; its output does not


def test_below_max_errors_the_next_step_runs_on_the_state_before_the_failure(bench):
    first = "<code>\nx = 3\nz = 1/0\n<end_of_step>"
    table = {
        "": [f"<code>\nx = 3\nz = 1/0\n{STEP}"],
        first: [f"\nprint(x)\n{STEP}", f"\ny = 2\n{STEP}", f"\nz = 1/0\n{CLOSE}"],
    }
    _, root, _, _ = bench.grow(SearchConfig(rollouts=1, max_errors=2), bench.tools(written(bench, table)), mcts)
    (failed,) = root.children
    assert (failed.end, failed.errors) == (None, 1)
    lost, fine, again = failed.children
    assert (lost.end, lost.error) == ("errors", "NameError: name 'x' is not defined")
    assert (fine.errors, fine.status) == (1, "ok")
    assert (again.end, again.errors) == ("errors", 2)


def test_an_error_that_closes_a_block_is_shown_to_the_model(bench):
    table = {"": [f"<code>\nz = 1/0\n{CLOSE}"]}
    _, root, _, _ = bench.grow(SearchConfig(rollouts=1, max_errors=2), bench.tools(written(bench, table)), mcts)
    assert root.children[0].text.endswith("<output>ZeroDivisionError: division by zero<end_of_output>")


def test_a_path_ends_at_max_depth_and_answers_count_there(bench):
    first = "<code>\nprint(1)\n<end_of_code>\n<output>1<end_of_output>"
    table = {
        "": [f"<code>\nprint(1)\n{CLOSE}"],
        first: [f"\n<code>\nx = 2\n{STEP}", f"\n<answer>\\boxed{{5}}{DONE}"],
    }
    trajectories, root, _, _ = bench.grow(
        SearchConfig(rollouts=3, max_depth=2), bench.tools(written(bench, table)), mcts
    )
    assert [(one.end, one.answer) for one in trajectories] == [("answer", "5")]
    assert [child.end for child in root.children[0].children] == ["depth", "answer"]


def test_a_policy_that_returns_nothing_ends_the_path(bench):
    trajectories, root, end, _ = bench.grow(SearchConfig(rollouts=3), bench.tools(written(bench, {})), mcts)
    assert [(one.end, one.steps) for one in trajectories] == [("no_candidates", ())]
    assert (end, root.visits, root.q) == ("exhausted", 1, -1.0)


def test_a_step_cut_by_its_token_limit_is_told_from_garbage(bench):
    table = {"": ["<code>\nx = 1|", f"garbage{STEP}"]}
    _, root, _, _ = bench.grow(SearchConfig(rollouts=1), bench.tools(written(bench, table)), mcts)
    assert [child.end for child in root.children] == ["length", "malformed"]


@pytest.mark.parametrize("walks", [2, 4, 8])
def test_parallel_walks_in_one_tree_are_deterministic_and_complete(bench, walks):
    """Virtual loss sends walks of one wave apart; results differ from one-by-one walks, but never by timing."""
    import random

    def run(delay_seed):
        rng = random.Random(delay_seed)
        policy = bench.World(6, delay=(lambda request: rng.random() * 0.003) if delay_seed else None)
        config = SearchConfig(rollouts=16, candidates=4, parallel_rollouts=walks)
        return bench.run(config, bench.tools(policy, bench.Judge(6)), keep_tree=True)

    first = run(0)
    assert first == run(1) == run(2)
    assert len(first.trajectories) == 16
    nodes = first.tree["nodes"]
    assert nodes[0]["visits"] == 16


def test_virtual_loss_sends_the_walks_of_a_wave_apart(bench):
    def first_steps(loss):
        policy = bench.World(1, failing=0, cut=0)
        config = SearchConfig(rollouts=4, candidates=8, parallel_rollouts=4, virtual_loss=loss, c_puct=0.0)
        result = bench.run(config, bench.tools(policy, bench.Judge(1, lambda text: -0.5)))
        return len({one.steps[0].text for one in result.trajectories})

    assert first_steps(0.0) == 1
    assert first_steps(1.0) == 4


def test_the_steps_of_a_trajectory_carry_their_values_in_the_tree(bench):
    tools = bench.tools(bench.World(2), bench.Judge(2))
    trajectories, root, _, _ = bench.grow(SearchConfig(rollouts=6), tools, mcts)
    by_path = {prefix_of(node): node for node in walk(root)}
    for one in trajectories:
        text = ""
        for step in one.steps:
            text += step.text
            assert step.value == by_path[text].q


def test_training_outcomes_take_precedence_over_the_reward_model_at_the_end(bench):
    tools = bench.tools(bench.World(2, failing=0, cut=0), bench.Judge(2), is_right)
    _, root, _, _ = bench.grow(SearchConfig(rollouts=6), tools, mcts)
    ends = [node for node in walk(root) if node.visits and node.end == "answer"]
    assert ends
    assert {node.q for node in ends} == {-1.0}
    assert all(node.value == node.prior for node in walk(root) if node.depth and node.end is None)
