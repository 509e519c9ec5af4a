# SPDX-License-Identifier: Apache-2.0
"""A Service and the pods behind it, as a Deployment's controller and kubelets would change them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusters.api import Backend
from clusters.measure.served import HTTP_PORT, LINE_PORT, QUEUE_PORT
from plugins.load.servers import Servers
from plugins.services import Port, Service
from plugins.slices import Endpoint, terminating
from plugins.world import World

# At the Service's address: its port, and the servers'.
SERVICE_PORTS = {HTTP_PORT: 80, LINE_PORT: 81, QUEUE_PORT: 82}
PORTS = (
    Port(SERVICE_PORTS[HTTP_PORT], HTTP_PORT, "TCP"),
    Port(SERVICE_PORTS[LINE_PORT], LINE_PORT, "TCP"),
    Port(SERVICE_PORTS[LINE_PORT], LINE_PORT, "UDP"),
    Port(SERVICE_PORTS[QUEUE_PORT], QUEUE_PORT, "TCP"),
)


@dataclass(slots=True)
class Pods:
    """`ready` are the backends that serve and may be sent new connections. Every change waits for the dataplane."""

    world: World
    servers: Servers
    service: Service
    ready: list[Backend] = field(default_factory=list)

    @classmethod
    def start(cls, world: World, servers: Servers, count: int) -> "Pods":
        """So many pods behind a new Service, in force. Raises UnfitError where there is no place for so many."""
        made = cls(world, servers, world.service(ports=PORTS))
        made.grow_to(count)
        return made

    def grow_to(self, count: int) -> None:
        """Start pods until there are so many; each is an endpoint once it is ready, as with a readiness probe."""
        self._join(places(self.world, count)[len(self.ready) :])

    def shrink_to(self, count: int) -> None:
        """End pods until there are so many: the youngest go, all at once and each in order."""
        self.drain(self.ready[count:])

    def replace(self, pod: Backend) -> None:
        """One pod ends in order, and another comes in its place: at its address, as nothing else is left free."""
        self.drain([pod])
        self._join([pod])

    def drain(self, leaving: Sequence[Backend]) -> None:
        """Pods end as well-behaved ones do.

        Each is told, and its endpoint is terminating: it serves on, until the dataplane sends new connections to
        others. Then its readiness probe fails, so that its endpoint no longer serves: now a dataplane forgets the
        flows of datagrams that led to it. When that is in force too it stops listening and ends with its last
        connection, and its endpoint goes.
        """
        for one in leaving:
            self.ready.remove(one)
        self._write(terminating(one) for one in leaving)
        self.servers.drain(leaving)
        self.world.settle()
        self._write(terminating(one, serving=False) for one in leaving)
        self.world.settle()
        self.servers.stop(leaving)
        self._write()
        self.world.settle()

    def crash(self, pod: Backend) -> None:
        """A pod is gone without a word: nobody has told its endpoint's slice."""
        self.servers.kill([pod])

    def forget(self, pod: Backend) -> None:
        """The endpoint of a pod that is gone goes too."""
        self.ready.remove(pod)
        self._write()
        self.world.settle()

    def _join(self, pods: Sequence[Backend]) -> None:
        self.servers.start(pods)
        self.ready.extend(pods)
        self._write()
        self.world.settle()

    def _write(self, besides: Iterable[Endpoint] = ()) -> None:
        self.service.set_endpoints([*self.ready, *besides])


def places(world: World, count: int) -> list[Backend]:
    """Where so many pods can be: the pool's, spread over the nodes, then addresses of one namespace.

    Raises UnfitError.
    """
    pool = sum(len(node.backends) for node in world.nodes)
    pods = world.backends(min(count, pool))
    return [*pods, *(world.many_backends(count - pool) if count > pool else ())]
