# SPDX-License-Identifier: Apache-2.0
"""Model against datapath on generated clusters: `python -m tests.datapath.property --examples 100000`.

Two independent readings of the documentation; a difference is a mistake in one of them. Prints which kinds of cases
the examples were, and fails if one that is expected makes less than 1 % of them.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from tests.datapath.bench import Bench
from tests.datapath.compare import Answer, ask
from tests.datapath.generate import Question, questions
from tests.datapath.network import Network
from tests.datapath.sequences import EXPECTED as EVENTS
from tests.datapath.sequences import report
from tests.datapath.sequences import run as run_sequences

EXPECTED = (
    *(f"answered: {kind}, {policy} policy" for kind in ("ClusterIP", "node port", "externalIP", "load balancer")
      for policy in ("Cluster", "Local")),
    *(f"refused: {kind}" for kind in ("ClusterIP", "node port", "externalIP", "load balancer")),
    *(f"dropped: {reason}" for reason in ("source ranges", "internal local", "external local")),
    *(f"{protocol} over {family}" for protocol in ("TCP", "UDP", "SCTP") for family in ("IPv4", "IPv6")),
    *(f"from a {who} {where}" for who in ("pod", "process") for where in ("here", "elsewhere")), "from outside",
    "passed: left to the network", "hairpin", "masqueraded", "keeps its source", "affinity", "terminating fallback",
    "topology: node", "topology: zone", "exempt from Local policy", "answered by a process of the node",
)  # fmt: skip
EXAMPLES_PER_SEQUENCE = 50  # a sequence has 40 events


@dataclass
class Histogram:
    """Kinds of cases, and how many examples were of each."""

    examples: int = 0
    cases: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        self.examples += 1
        self.cases.update(answer.classes)

    def rare(self, share: float = 0.01) -> list[str]:
        """The expected kinds that are less than this share of the examples."""
        return [case for case in EXPECTED if self.cases[case] < share * self.examples]

    def report(self) -> str:
        lines = [f"{self.examples:,} examples"]
        lines += [f"{number:9,} {number / self.examples:6.1%}  {case}" for case, number in self.cases.most_common()]
        return "\n".join(lines)


def hold(bench: Bench, question: Question, histogram: Histogram) -> None:
    """One example: AssertionError with every difference."""
    answer = ask(bench, question)
    if answer is None:
        return
    histogram.add(answer)
    note(f"{question.flow}, decided on {question.node}")
    for one in (*question.state.services, *question.state.endpoint_slices):
        note(orjson.dumps(one).decode())
    note(f"zones: {[node.zone for node in question.state.nodes]}")
    note(f"configuration: {question.state.config}")
    note(answer.model.explain())
    note(str(answer.decision))
    assert answer.differences == (), "\n".join(answer.differences)


def run(bench: Bench, examples: int, start: int) -> Histogram:
    """So many examples from a seed, in parts, which keeps hypothesis quick. Raises AssertionError."""
    histogram = Histogram()
    part = 1000

    while histogram.examples < examples:

        @seed(start + histogram.examples)
        @settings(
            max_examples=min(part, examples - histogram.examples), database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(questions())
        def check(question: Question) -> None:
            hold(bench, question, histogram)

        check()
    return histogram


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.datapath.property", description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    options = parser.parse_args(arguments)
    if options.examples < 1:
        parser.error(f"--examples must be at least 1, not {options.examples}")
    if os.geteuid() != 0:
        print("unfit: running packets through BPF programs needs root", file=sys.stderr)
        return 4
    start = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    print(f"seed {start}", flush=True)
    # It is any of the nodes in turn, so none of their addresses is its own.
    network, began = Network(own=("192.0.2.1/24", "2001:db8:192::1/64")), time.perf_counter()
    try:
        with network.entered(), Bench(sizes={"flows": 256, "affinities": 256}) as bench:
            histogram = run(bench, options.examples, start)
            seconds = time.perf_counter() - began
            print(f"{histogram.report()}\n{seconds:.0f} s, {histogram.examples / seconds:,.0f} examples a second")
            sequences = max(1, options.examples // EXAMPLES_PER_SEQUENCE)
            cases = run_sequences(bench, sequences, start)
            print(f"{sequences:,} sequences of events\n{report(cases)}")
    finally:
        network.close()
    rare = histogram.rare()
    if rare:
        print(f"less than 1 % of the examples: {', '.join(rare)}", file=sys.stderr)
    missing = [case for case in EVENTS if not cases[case]]
    if missing:
        print(f"in no sequence: {', '.join(missing)}", file=sys.stderr)
    return 1 if rare or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
