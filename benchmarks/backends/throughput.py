"""Tokens a second of a policy at several numbers of sequences at once, in turn.

    python benchmarks/backends/throughput.py 'gguf:MODEL.gguf?parallel=16' [--sequences 1 4 8 16] [--repeats 5]

Each round asks once for each number of completions of one prompt; every row is the median of its rounds with the
smallest and largest, and the ratio to the first row. The prompt's own computation is part of the time, as in a search.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.types import SampleRequest

QUESTION = "A shop packs 17 crates with 24 jars each and sends back 39 jars. How many jars does it keep?"


async def measure(spec: str, sequences: list[int], repeats: int, tokens: int) -> dict[int, list[float]]:
    """Return tokens/s by number of sequences, one value a round."""
    policy = await make_policy(spec, notify=print)
    rates: dict[int, list[float]] = {n: [] for n in sequences}
    try:
        for repeat in range(repeats):
            for n in sequences:
                request = SampleRequest(QUESTION, "", n, repeat * 1000, "block", 1.0, 1.0, tokens)
                start = time.perf_counter()
                result = await policy.sample(request)
                spent = time.perf_counter() - start
                rates[n].append(sum(one.tokens for one in result.completions) / spent)
    finally:
        await policy.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    rates = asyncio.run(measure(arguments.policy, arguments.sequences, arguments.repeats, arguments.tokens))
    base = statistics.median(rates[arguments.sequences[0]])
    print("sequences  tokens/s (median, min, max)  ratio to the first row")
    for n, found in rates.items():
        middle = statistics.median(found)
        print(f"{n:9d}  {middle:8.1f} {min(found):6.1f} {max(found):6.1f}           {middle / base:6.2f}")


if __name__ == "__main__":
    main()
