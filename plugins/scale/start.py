# SPDX-License-Identifier: Apache-2.0
"""Setting up a bench: the client compiled, a lab with the proxy in it, the direct pair, and places for endpoints."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pluggy

from clusters.kube import NAMESPACES
from clusters.lab.provider import Lab
from clusters.lab.topology import MAX_DENSE, PodNetwork
from clusters.measure import services as named
from clusters.measure.api import Api
from clusters.measure.services import Shape
from clusters.measure.stage import on_stage
from clusters.measure.traffic import Traffic
from plugins.options import Settings
from plugins.run import Run
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell
from plugins.scale.memory import kernel
from plugins.scale.settings import DURATION
from plugins.scale.starts import configure, grow
from plugins.world import UnfitError

# Client, scout, and two pods for whoever needs endpoints of their own.
PODS = 4
SPARE = 4
# Seconds, before --deadline-scale. Quadratic ways of loading rules need minutes at ten thousand Services.
READY, SETTLE = 900.0, 900.0


@contextmanager
def opened(
    settings: Settings,
    hook: pluggy.HookRelay,
    keep: Callable[[Cell], None],
    *,
    worker: str = "scale",
    nodes: int = 1,
    pod_network: PodNetwork | None = None,
    watched_pids: Sequence[int] = (),
    traffic: Traffic | None = None,
) -> Iterator[Bench]:
    """A bench with a lab of its own, of as few nodes as are needed: each has a proxy that costs the others time.

    `traffic`: the client of another bench of this process, which has the CPUs already.
    Raises UnfitError where the cluster is not a lab, PlumblineError where something cannot be had.
    """
    wanted = replace(
        settings,
        nodes=nodes,
        pods_per_node=PODS,
        pod_network=pod_network or settings.pod_network,
        families=("IPv4",),
        ready_deadline=max(settings.ready_deadline, READY),
    )
    with ExitStack() as stack:
        traffic = traffic or stack.enter_context(Traffic())
        run = stack.enter_context(Run(wanted, hook, worker, watched_pids))
        lab = run.cluster
        if not isinstance(lab, Lab):
            raise UnfitError("scale is measured in the embedded lab")
        run.settler.deadlines = replace(
            run.settler.deadlines, settle=SETTLE * settings.deadline_scale, after_failure=SETTLE
        )
        stage = stack.enter_context(on_stage(traffic, lab))
        lab.kube.create(NAMESPACES, {"metadata": {"name": named.NAMESPACE}})
        # Some for Services that are added, or that take another's.
        wide = (settings.services[-1] + SPARE) * settings.endpoints_per_service
        dense = lab.dense_backends(lab.nodes[0].name, min(wide, MAX_DENSE))
        api = Api(lab.kube)
        stack.callback(api.close)
        bench = Bench(
            settings=wanted,
            run=run,
            stage=stage,
            api=api,
            shape=Shape([one.addresses["IPv4"] for one in dense], settings.endpoints_per_service),
            duration=settings.duration or DURATION,
            keep=keep,
            grow=grow,
            configure=configure,
            kernel_before=kernel(),
        )
        stack.callback(bench.close)
        yield bench
