# SPDX-License-Identifier: Apache-2.0
"""Starting the proxy anew, with nothing in the kernel or with what its predecessor left there."""

import math
import time
from collections.abc import Mapping

from clusters.errors import PlumblineError
from clusters.lab.operations import NODE_BPF
from clusters.measure import services as named
from plugins.scale.bench import Bench, Start
from plugins.scale.updates import OTHERS, other_endpoint
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
AT_ONCE = 1_000
"""Services that are added before the proxy has to have caught up."""
TELLING = 500
"""With fewer Services a start is the start of a process, and tells nothing of more."""
TOO_LONG, SHARE = 20.0, 0.1
"""Seconds of a start that is not tried any more, unless it is less than this share of a --budget."""


def grow(bench: Bench, before: int) -> None:
    """Bring into force what is to be added to so many Services, some at a time.

    All at once, or a start from nothing, costs iptables of the nf_tables kind the square of what it is given, and
    more where that outgrows a CPU's cache: thirty thousand chains are four minutes, in steps they are seconds each.
    """
    last = bench.services
    for start in range(before, last, AT_ONCE):
        bench.services = min(start + AT_ONCE, last)
        bench.write(start, bench.services)
        bench.settle()


def starts(bench: Bench, *, from_nothing: bool) -> list[Start]:
    """Some starts, fewer the longer they take, and one at least.

    Raises TooLongError where what a start took with fewer Services says that it would take too long: the square of
    what there is to be done.
    """
    must_not_take_long(bench, bench.started if from_nothing else {**bench.started, **bench.restarted})
    found: list[Start] = []
    while not found or (len(found) < MOST_STARTS and sum(one.seconds for one in found) < SECONDS):
        found.append(start_anew(bench, from_nothing=from_nothing))
    quickest = min(found, key=lambda one: one.seconds)
    (bench.started if from_nothing else bench.restarted)[bench.services] = quickest
    return found


def must_not_take_long(bench: Bench, known: Mapping[int, Start], times: int = 1) -> None:
    """Raise TooLongError where so many starts would take too long, by those that are known."""
    feared = times * expected(known, bench.services)
    if feared > max(TOO_LONG, SHARE * (bench.settings.budget or 0.0)):
        services, before = max(known.items())
        raise TooLongError(
            f"a start took {before.seconds:.0f} s with {services:,} Services, and the square of their number is "
            f"to be feared; --budget={math.ceil(feared / SHARE / 60)}m has room for it"
        )


def expected(known: Mapping[int, Start], services: int) -> float:
    """Seconds of a start, by those with fewer Services: what a process needs at all, and the square of the rest.

    0 where nothing is known that would tell.
    """
    telling = [number for number in known if number >= TELLING]
    if not telling:
        return 0.0
    nearest = max(telling)
    always = min(one.seconds for one in known.values()) if len(known) > 1 else 0.0
    return always + (known[nearest].seconds - always) * (services / nearest) ** 2


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
        found = _started(bench, from_nothing=from_nothing)
        _write(bench, bench.api.patch(path, named.new_endpoints(bench.shape.endpoints(number))))
        bench.settle()
    return found


class TooLongError(Exception):
    """There is no time for it; the sentence says why, and what to type."""


def _started(bench: Bench, *, from_nothing: bool) -> Start:
    """Start the proxy, and wait until the last Service has the other endpoint's answer."""
    if from_nothing:
        wipe(bench)
    bench.lab.forget_flows()
    with bench.polling(bench.service(bench.services - 1)) as poller:
        began = time.monotonic()
        with bench.stage.urging():
            bench.run.proxy.start()
        seconds = poller.await_answer(OTHERS) - began
    return Start(seconds, proxy_seconds(bench))


def wipe(bench: Bench) -> None:
    """Remove whatever a proxy that has been stopped has left on its node. Raises PlumblineError."""
    if bench.lab.supervisor.run(["sh", "-c", WIPE], node=bench.node.name).status != 0:
        raise PlumblineError(f"what the proxy had left on {bench.node.name} could not be removed")


def _write(bench: Bench, request: bytes) -> None:
    bench.api.send(request)
    bench.api.answered()
