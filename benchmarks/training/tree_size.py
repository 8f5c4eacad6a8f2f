"""What stored trees take: bytes and tokens a node, nodes and expansions a tree, different candidates an expansion.

    python benchmarks/training/tree_size.py RUN...

The numbers of `rstar-eval plan` come from here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rstar_eval.store import read_manifest
from rstar_eval.training.plan import expansions
from rstar_eval.trees import TREES, read_trees


def main(paths: list[Path]) -> None:
    trees = nodes = grown = tokens = samples = bound = size = 0
    for path in paths:
        config = read_manifest(path)["config"]
        size += (path / TREES).stat().st_size
        for tree in read_trees(path):
            steps = tree.nodes[1:]
            trees += 1
            nodes += len(steps)
            grown += len({str(step["tag"]).rpartition(".")[0] for step in steps})
            tokens += sum(int(step.get("tokens") or 0) for step in steps)
            samples += sum(int(step["samples"]) for step in steps)
            bound += expansions(config["rollouts"] // config["trees"], config["candidates"], 5)
    print(f"{trees} trees, {nodes / trees:.1f} nodes and {grown / trees:.1f} expansions a tree")
    print(f"{size / nodes:.1f} compressed bytes and {tokens / nodes:.1f} tokens a node")
    print(f"{nodes / samples:.2f} of the candidates differ; {grown / bound:.2f} of the bound for 5 levels is expanded")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
