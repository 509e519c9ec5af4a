# SPDX-License-Identifier: Apache-2.0
"""Starting the proxy anew, with nothing in the kernel or with what its predecessor left there."""

import time
from dataclasses import dataclass

from clusters.errors import PlumblineError
from clusters.lab.operations import NODE_BPF
from clusters.measure import services as named
from plugins.scale.bench import Bench
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
MOST_STARTS, SECONDS = 3, 6.0


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the process's start until what was written before it is in force; CPU seconds until then."""

    seconds: float
    cpu: float


def starts(bench: Bench, *, from_nothing: bool) -> list[Start]:
    """Some starts, fewer the longer they take, and one at least."""
    found: list[Start] = []
    while len(found) < MOST_STARTS and sum(one.seconds for one in found) < SECONDS:
        found.append(start_anew(bench, from_nothing=from_nothing))
    return found


def start_anew(bench: Bench, *, from_nothing: bool) -> Start:
    """Stop the proxy, give one Service another endpoint, start it, and wait for the answer from there.

    That write is how one can tell that the new process has done its work, even where the old rules are all there.
    Afterwards everything is as it was, and in force. Raises UnfitError where the proxy is not ours to start.
    """
    proxy = bench.run.proxy
    if proxy.name == "none":
        raise UnfitError("the proxy is not ours to start again")
    number = bench.services - 1
    path = f"{named.SLICES}/{named.slice_name(number)}"
    proxy.stop()
    if from_nothing and bench.lab.supervisor.run(["sh", "-c", WIPE], node=bench.node.name).status != 0:
        raise PlumblineError(f"what the proxy had left on {bench.node.name} could not be removed")
    bench.lab.forget_flows()
    with other_endpoint(bench) as other:
        _write(bench, bench.api.patch(path, named.new_endpoints([other])))
        with bench.polling(bench.service(number)) as poller:
            began = time.monotonic()
            with bench.stage.urging():
                proxy.start()
            seconds = poller.await_answer(OTHERS) - began
        cpu = proxy_seconds(bench)
        _write(bench, bench.api.patch(path, named.new_endpoints(bench.shape.endpoints(number))))
        bench.settle()
    return Start(seconds, cpu)


def _write(bench: Bench, request: bytes) -> None:
    bench.api.send(request)
    bench.api.answered()
