# SPDX-License-Identifier: Apache-2.0
"""The default system: the embedded lab, and on its nodes the proxy that the options name."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from clusters.announcers.metallb import MetalLB
from clusters.api import Announcer, Cluster, Proxy
from clusters.lab.control_plane import ControlPlane, Embedded, Real
from clusters.lab.provider import Lab
from clusters.proxies.command import CommandProxy
from clusters.proxies.kube_proxy import KubeProxy, Mode
from clusters.proxies.kube_router import KubeRouter
from clusters.proxies.none import NoProxy
from clusters.proxies.reference import Reference
from plugins.options import Settings
from plugins.oracle import Oracle
from plugins.run import Run


@pytest.hookimpl(trylast=True)
def pytest_plumbline_cluster(settings: Settings, worker: str, watched_pids: Sequence[int]) -> Lab:
    return Lab(
        nodes=settings.nodes,
        pods_per_node=settings.pods_per_node,
        pod_network=settings.pod_network,
        log_directory=Path(settings.report) / "logs" / worker,
        watched_pids=watched_pids,
        iptables_backend=settings.iptables_backend,
        control_plane=_control_plane(settings),
        bpf=settings.loads_bpf,
        sctp=settings.speaks_sctp,
        announcer=settings.announcer is not None,
    )


def _control_plane(settings: Settings) -> ControlPlane:
    if settings.control_plane == "embedded":
        return Embedded()
    return Real(Path(settings.etcd or "etcd"), Path(settings.kube_apiserver or "kube-apiserver"))


@pytest.hookimpl(trylast=True)
def pytest_plumbline_proxy(settings: Settings, cluster: Cluster) -> Proxy:
    if settings.proxy == "none":
        return NoProxy()
    assert isinstance(cluster, Lab), "only the lab's nodes take a proxy of ours"
    if settings.proxy == "command":
        return CommandProxy(
            cluster,
            command=settings.command,
            settle=settings.settle or "converge",
            features=frozenset(settings.features),
            ready_deadline=settings.ready_deadline,
        )
    if settings.proxy == "ebpf":
        return Reference(
            cluster,
            version=settings.version,
            ready_deadline=settings.ready_deadline,
            services=settings.services[-1],
            endpoints=settings.services[-1] * settings.endpoints_per_service,
        )
    if settings.proxy == "kube-router":
        return KubeRouter(
            cluster,
            binary=Path(settings.binary or "kube-router"),
            version=settings.version,
            ready_deadline=settings.ready_deadline,
        )
    return KubeProxy(
        cluster,
        binary=Path(settings.binary or "kube-proxy"),
        version=settings.version,
        mode=cast(Mode, settings.mode),
        sync=settings.sync,
        scheduler=settings.ipvs_scheduler,
        # MetalLB says so itself: https://metallb.io/installation/#preparation
        strict_arp=settings.has_strict_arp,
        ready_deadline=settings.ready_deadline,
    )


@pytest.hookimpl(trylast=True)
def pytest_plumbline_announcer(settings: Settings, cluster: Cluster) -> Announcer | None:
    if settings.announcer is None:
        return None
    assert isinstance(cluster, Lab), "only the lab's nodes take an announcer of ours"
    return MetalLB(
        cluster,
        cluster.kube,
        binary=Path(settings.announcer_binary or "speaker"),
        version=settings.announcer_version,
        ranges=cluster.announced_cidrs,
        ready_deadline=settings.ready_deadline,
    )


@pytest.hookimpl(trylast=True)
def pytest_plumbline_oracle(settings: Settings) -> Oracle:
    """The reference datapath itself, where BPF can be loaded. Raises LookupError."""
    lacks = settings.host.get("lacks_bpf", "nobody has looked whether BPF can be loaded")
    if lacks is not None:
        raise LookupError(lacks)
    # Only where it is used: it brings the controller with it.
    from dataplane_ref.loader import LoadError
    from dataplane_ref.oracle.oracle import Oracle as Reference

    try:
        return Reference.load()
    except LoadError as error:
        raise LookupError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_plumbline_await_ready(run: Run) -> bool:
    """Wait for the sentinel. Raises ProxyError, with the proxy's last log lines, when it never answers."""
    if run.settings.proxy == "none":
        return True
    settled = run.settler.ready(run.settings.ready_deadline)
    if not settled.done:
        raise run.proxy.never_ready(sorted({place.partition(" ")[0] for place in settled.missing}))
    return True
