# SPDX-License-Identifier: Apache-2.0
"""Starting the proxy anew, with nothing in the kernel or with what its predecessor left there."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from clusters.errors import PlumblineError
from clusters.lab.operations import NODE_BPF
from clusters.measure import services as named
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
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
MOST_STARTS, SECONDS = 2, 4.0
AT_ONCE = 2_500
"""Services that are added before the proxy has to have caught up."""
TELLING = 500
"""With fewer Services a start is the start of a process, and tells nothing of more."""
TOO_LONG: Mapping[str, float] = {FROM_NOTHING: 300.0, IN_PLACE: 25.0}
"""Seconds of a start that is not tried any more, unless it is less than SHARE of a --budget."""
SHARE = 0.1


# What kube-proxy does when it is told nothing (https://kubernetes.io/docs/reference/networking/virtual-ips/).
AS_SHIPPED = ProxyConfiguration(sync_period="30s", min_sync_period="1s")


def puts_off(bench: Bench) -> bool:
    """Whether the proxy puts off changes as it does by default, or never does: the reference has no such period."""
    return bench.settings.sync == "default" or bench.run.proxy.mode == "ebpf"


def as_shipped(bench: Bench) -> ProxyConfiguration:
    """The configuration in which it puts off changes as it does by default. Raises UnfitError where it has none."""
    if puts_off(bench):
        return DEFAULT
    if refused := bench.run.proxy.refuses(AS_SHIPPED):
        raise UnfitError(f"{refused}: {AS_SHIPPED}")
    return AS_SHIPPED


def configure(bench: Bench, wanted: ProxyConfiguration) -> None:
    """Start the proxy anew with another configuration, from nothing: beside its rules that would take longer."""
    bench.run.proxy.stop()
    wipe(bench)
    bench.run.configure(wanted)
    bench.settle()


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
    how = FROM_NOTHING if from_nothing else IN_PLACE
    must_not_take_long(bench, how, bench.started)
    if not from_nothing:
        # Beside rules that are there it takes as long at least.
        must_not_take_long(bench, how, bench.restarted)
    found: list[Start] = []
    while not found or (len(found) < MOST_STARTS and sum(one.seconds for one in found) < SECONDS):
        found.append(start_anew(bench, from_nothing=from_nothing))
    quickest = min(found, key=lambda one: one.seconds)
    (bench.started if from_nothing else bench.restarted)[bench.services] = quickest
    return found


def at_as_shipped(bench: Bench, services: int) -> None:
    """See that so many Services are there and in force, with the proxy as it is shipped.

    Raises UnfitError where it cannot be told, and TooLongError where the start for that would take too long.
    """
    wanted = as_shipped(bench)
    if wanted != bench.run.asked:
        must_not_take_long(bench, FROM_NOTHING, bench.started)
    bench.at(services, wanted)


def must_not_take_long(bench: Bench, how: str, known: Mapping[int, Start]) -> None:
    """Raise TooLongError where a start, from nothing or not, would take too long, by those that are known."""
    feared = expected(known, bench.services)
    if feared > max(TOO_LONG[how], SHARE * (bench.settings.budget or 0.0)):
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


def keep(bench: Bench, series: str) -> None:
    """Cells of what starts take, or one that says why there are none."""
    try:
        found = starts(bench, from_nothing=series == FROM_NOTHING)
    except TooLongError as error:
        bench.leave_out("cold", series=series, unit="s", reason=str(error))
        return
    bench.cell_of("cold", series=series, unit="s", better="less", values=[one.seconds for one in found])
    bench.cell_of("cold", series=f"CPU, {series}", unit="s", better="less", values=[one.cpu for one in found])


def start_anew(bench: Bench, *, from_nothing: bool) -> Start:
    """Stop the proxy, give one Service another endpoint, start it, and wait for the answer from there.

    That write is how one can tell that the new process has done its work, even where the old rules are all there.
    From nothing it starts as it is shipped, where it lets itself be configured, with rules in place as it is
    configured for the run: what is measured with either configuration needs no start of its own.
    Afterwards all Services are as they were, and in force. Raises UnfitError where the proxy is not ours to start.
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
    wanted = DEFAULT
    if from_nothing:
        wipe(bench)
        with suppress(UnfitError):
            wanted = as_shipped(bench)
    bench.lab.forget_flows()
    with ThreadPoolExecutor(1) as beside, bench.polling(bench.service(bench.services - 1)) as poller:

        def answered() -> Start:
            at = poller.await_answer(OTHERS)
            return Start(at - began, proxy_seconds(bench))

        began = time.monotonic()
        found = beside.submit(answered)
        with bench.stage.urging():
            if wanted == bench.run.asked:
                bench.run.proxy.start()
            else:
                bench.run.configure(wanted)
        return found.result()


def wipe(bench: Bench) -> None:
    """Remove whatever a proxy that has been stopped has left on its node. Raises PlumblineError."""
    if bench.lab.supervisor.run(["sh", "-c", WIPE], node=bench.node.name).status != 0:
        raise PlumblineError(f"what the proxy had left on {bench.node.name} could not be removed")


def _write(bench: Bench, request: bytes) -> None:
    bench.api.send(request)
    bench.api.answered()
