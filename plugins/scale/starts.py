# SPDX-License-Identifier: Apache-2.0
"""Starting the proxy anew, with nothing in the kernel or with what its predecessor left there."""

import math
import time

from clusters.errors import PlumblineError
from clusters.lab.operations import NODE_BPF
from clusters.measure import services as named
from plugins.scale.bench import Bench, Start
from plugins.scale.updates import OTHERS, THEIRS, other_endpoint
from plugins.scale.usage import proxy_seconds
from plugins.world import UnfitError

# What removes every trace of a proxy from a node; what a machine lacks leaves no trace either.
WIPE = f"""
iptables-save | grep -q . && iptables-restore </dev/null
for program in iptables-legacy-restore ip6tables-legacy-restore iptables-nft-restore ip6tables-nft-restore; do
  printf '*nat\\nCOMMIT\\n*filter\\nCOMMIT\\n*mangle\\nCOMMIT\\n*raw\\nCOMMIT\\n' | $program 2>/dev/null
done
nft flush ruleset 2>/dev/null
ip link delete kube-ipvs0 2>/dev/null
ipvsadm -C 2>/dev/null
ipset destroy 2>/dev/null
rm -rf {NODE_BPF}/*
conntrack -F 2>/dev/null
true
"""


FROM_NOTHING, IN_PLACE = "from nothing", "with rules in place"
MOST_STARTS, SECONDS = 3, 4.0
TOO_LONG = 30.0
"""Seconds of a start from nothing, after which one with rules in place is not tried unless a --budget has room."""


def grow(bench: Bench, before: int) -> None:
    """Bring into force what is to be added to so many Services; the proxy is started from nothing, and timed.

    One that is told of thousands of changes while it runs takes longer than one that finds them there, and which of
    them it has seen at once is chance. Where the proxy is not ours to start, it is told all the same.
    """
    proxy = bench.run.proxy
    if proxy.name == "none":
        bench.write(before, bench.services)
        bench.settle()
        return
    proxy.stop()
    bench.write(before, bench.services)
    bench.started[bench.services] = _started(bench, THEIRS, from_nothing=True)
    bench.settle()


def starts(bench: Bench, *, from_nothing: bool) -> list[Start]:
    """Some starts, fewer the longer they take, and one at least. Raises TooLongError."""
    first = bench.started.get(bench.services)
    budget = bench.settings.budget or 0.0
    if first is not None and not from_nothing and first.seconds > max(TOO_LONG, budget / 10):
        raise TooLongError(
            f"a start from nothing took {first.seconds:.0f} s here, and one with rules in place takes longer; "
            f"--budget={math.ceil(first.seconds / 6)}m has room for it"
        )
    found = [first] if first is not None and from_nothing else []
    while not found or (len(found) < MOST_STARTS and sum(one.seconds for one in found) < SECONDS):
        found.append(start_anew(bench, from_nothing=from_nothing))
    return found


def start_anew(bench: Bench, *, from_nothing: bool) -> Start:
    """Stop the proxy, give one Service another endpoint, start it, and wait for the answer from there.

    That write is how one can tell that the new process has done its work, even where the old rules are all there.
    Afterwards everything is as it was, and in force. Raises UnfitError where the proxy is not ours to start.
    """
    if bench.run.proxy.name == "none":
        raise UnfitError("the proxy is not ours to start again")
    number = bench.services - 1
    path = f"{named.SLICES}/{named.slice_name(number)}"
    bench.run.proxy.stop()
    with other_endpoint(bench) as other:
        _write(bench, bench.api.patch(path, named.new_endpoints([other])))
        found = _started(bench, OTHERS, from_nothing=from_nothing)
        _write(bench, bench.api.patch(path, named.new_endpoints(bench.shape.endpoints(number))))
        bench.settle()
    return found


class TooLongError(Exception):
    """There is no time for it; the sentence says why, and what to type."""


def _started(bench: Bench, answer: str, *, from_nothing: bool) -> Start:
    """Start the proxy, and wait until the last Service gives this answer."""
    node = bench.node.name
    if from_nothing and bench.lab.supervisor.run(["sh", "-c", WIPE], node=node).status != 0:
        raise PlumblineError(f"what the proxy had left on {node} could not be removed")
    bench.lab.forget_flows()
    with bench.polling(bench.service(bench.services - 1)) as poller:
        began = time.monotonic()
        with bench.stage.urging():
            bench.run.proxy.start()
        seconds = poller.await_answer(answer) - began
    return Start(seconds, proxy_seconds(bench))


def _write(bench: Bench, request: bytes) -> None:
    bench.api.send(request)
    bench.api.answered()
