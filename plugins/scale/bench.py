# SPDX-License-Identifier: Apache-2.0
"""The bench: a lab with the proxy under test, Services by the thousand, and a client that measures.

A test says at how many Services it measures (`bench.at`), and then what: `bench.cell(…)` with a function that
measures once, and one that measures the limit. Whatever else a chart needs of the lab is here too: `stage` (the
namespaces, and the C client), `api` (raw writes), `run` (the proxy, and settling).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clusters.api import Node
from clusters.errors import PlumblineError
from clusters.kube import SERVICE_CIDRS
from clusters.lab.provider import Lab
from clusters.measure import services as named
from clusters.measure.api import Api
from clusters.measure.services import Shape
from clusters.measure.stage import Stage
from clusters.measure.traffic import SERVERS, Kind, Pace, Poller, Sample, Server, Target, TrafficError
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from plugins.options import Settings
from plugins.record import Record
from plugins.run import Run
from plugins.scale import order
from plugins.scale.cells import Better, Cell, Unit
from plugins.scale.limits import REPEATS, Best, in_turns, stolen
from plugins.scale.taken import VALUES, Taken
from plugins.scale.words import in_words
from plugins.world import UnfitError

DIALLED = 1_000
"""Of more Services than this so many are dialled, spread over all of them."""
CHECKED_SECONDS, PATIENCE, ANSWER_DEADLINE = 0.2, 0.5, 20.0
DIRECT_VETH = "direct veth"
Measured = Callable[[], "Sample | float"]


@dataclass(frozen=True, slots=True)
class Direct:
    """The same client over a veth pair with nothing in between; calling it measures it once."""

    stage: Stage
    kind: Kind
    seconds: float
    pace: Pace | None

    def __call__(self) -> Sample:
        return self.stage.direct(self.kind, self.seconds, self.pace)


@dataclass(frozen=True, slots=True)
class Start:
    """Of a proxy: seconds from its start until what was written before it is in force; CPU seconds until then."""

    seconds: float
    cpu: float


@dataclass(slots=True)
class Bench:
    """One node with the proxy, a client pod, and endpoints that all live in one namespace of that node.

    `services` is how many there are and in force. `grow` brings into force what is to be added to so many before,
    `configure` starts the proxy anew with another configuration; `written` tells how many seconds the API server
    took until there were so many more. `started` and `restarted` are the proxy's first starts with so many Services,
    for what can be expected of later ones.
    """

    settings: Settings
    run: Run
    stage: Stage
    api: Api
    shape: Shape
    duration: float
    keep: Callable[[Cell], None]
    grow: Callable[["Bench", int], None]
    configure: Callable[["Bench", ProxyConfiguration], None]
    services: int = 0
    kernel_before: int = 0  # bytes that the kernel used before there was a Service
    written: dict[int, float] = field(default_factory=dict)
    started: dict[int, Start] = field(default_factory=dict)  # from nothing
    restarted: dict[int, Start] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)  # of the test that runs
    record: Record = field(default_factory=lambda: Record("", "", "", "", {}))
    server_pid: int = 0  # of who listens at the endpoints
    best: dict[tuple[Kind, Pace | None, Unit], Best] = field(default_factory=dict)  # of direct limits
    _serving: Server | None = None
    _server: ExitStack = field(default_factory=ExitStack)

    # Where things are.

    @property
    def lab(self) -> Lab:
        return self.stage.lab

    @property
    def node(self) -> Node:
        return self.lab.nodes[0]

    @property
    def client(self) -> Path:
        """The client pod's network namespace."""
        return self.stage.namespace(self.node.client.name)

    @property
    def endpoints(self) -> Path:
        """The namespace that has all endpoints of the Services that `at` makes."""
        return self.stage.namespace(f"{self.node.name}.dense")

    # How many Services.

    def at(self, services: int, configuration: ProxyConfiguration | None = DEFAULT) -> None:
        """See that so many Services are there and in force, and how the proxy is configured (None: any will do).

        Raises UnfitError for fewer Services than before.
        """
        if services < self.services:
            raise UnfitError(f"Services are only added, and there are {self.services:,} already")
        # With as few Services as possible: it takes a start.
        if configuration is not None and configuration != self.run.asked:
            self.configure(self, configuration)
        if services == self.services:
            return
        self.serve("serve")
        before, self.services = self.services, services
        self.grow(self, before)

    def write(self, first: int, last: int) -> None:
        """Write the Services from number `first` to before `last` to the API, whatever is in force."""
        began = time.monotonic()
        if named.needs_more(last) and not named.needs_more(first):
            self.lab.kube.create(SERVICE_CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": [named.MORE]}})
        is_ours = self.settings.control_plane == "embedded"
        bodies = self.shape.lists(first, last) if is_ours else self.shape.objects(first, last)
        self.api.write_all(self.api.request("POST", *each) for each in bodies)
        self.written[last] = time.monotonic() - began

    def settle(self) -> float:
        """Wait until all that has been written is in force; how many seconds that took. Raises PlumblineError."""
        settled = self.run.settler.settle(None, self._silent)
        if not settled.done:
            raise PlumblineError(
                f"{self.services:,} Services were not in force after {settled.seconds:.0f} s: "
                f"{', '.join(settled.missing) or 'the sentinel does not follow'}"
            )
        end = time.monotonic() + ANSWER_DEADLINE * self.settings.deadline_scale
        while wrong := self._silent():
            if time.monotonic() > end:
                raise PlumblineError(f"with {self.services:,} Services in force {'; '.join(wrong.values())}")
        self.lab.forget_flows()
        return settled.seconds

    def _silent(self) -> Mapping[str, str]:
        """Of the Services that are dialled, whether there are some that do not answer."""
        self.serve("serve")
        pace = Pace(failures=None, patience=PATIENCE)
        found = self.stage.traffic.measure(self.client, "rate", self.every_service(), CHECKED_SECONDS, pace)
        return {"Services": f"{found.failures} connections failed"} if found.failures else {}

    # Whom to dial.

    def service(self, number: int) -> Target:
        """The Service with this number, from 0."""
        return named.target(number)

    def every_service(self, most: int = DIALLED) -> list[Target]:
        """All Services, or of many so many, spread over all."""
        return [named.target(number) for number in range(0, self.services, max(1, self.services // most))]

    def first_service(self) -> Target:
        """The one that the dataplane looks at first, where it looks at one after the other."""
        return order.ends(self.lab, self.run.proxy.mode, self.services)[0]

    def last_service(self) -> Target:
        """The one that it looks at last."""
        return order.ends(self.lab, self.run.proxy.mode, self.services)[1]

    # Measuring once.

    def serve(self, server: Server) -> None:
        """See that this kind of server, and no other, listens at all endpoints."""
        if server != self._serving:
            self._server.close()
            self.server_pid = self._server.enter_context(self.stage.traffic.server(self.endpoints, server))
            self._serving = server

    def serve_nothing(self) -> None:
        """Nobody of ours listens at the endpoints: somebody else will."""
        self._server.close()
        self._serving = None

    def measure(
        self,
        kind: Kind,
        targets: Target | Sequence[Target],
        *,
        pace: Pace | None = None,
        seconds: float | None = None,
    ) -> Sample:
        """One run of the client pod. `seconds`: one repeat's share of `--duration` unless said otherwise."""
        self.serve(SERVERS[kind])
        several = [targets] if isinstance(targets, tuple) and isinstance(targets[0], str) else targets
        return self.stage.traffic.measure(self.client, kind, several, seconds or self.share, pace)  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """Seconds of one repeat."""
        return self.duration / REPEATS

    def connect(self, targets: Target | Sequence[Target]) -> Sample:
        """connect(2) alone: a SYN, and its answer."""
        return self.measure("connect", targets)

    def rate(self, targets: Target | Sequence[Target]) -> Sample:
        """Connect, a byte there, a byte back, RST."""
        return self.measure("rate", targets)

    def request(self, target: Target) -> Sample:
        """A byte there and back on one connection."""
        return self.measure("request", target)

    def hundred(self, targets: Target | Sequence[Target]) -> Sample:
        """A hundred requests on each connection."""
        return self.measure("hundred", targets)

    def flows(self, targets: Target | Sequence[Target]) -> Sample:
        """Connections of 64 KiB each."""
        return self.measure("flow", targets)

    def direct(self, kind: Kind, *, pace: Pace | None = None, seconds: float | None = None) -> Direct:
        """The limit of most that is measured."""
        return Direct(self.stage, kind, seconds or self.share, pace)

    @contextmanager
    def polling(self, target: Target) -> Iterator[Poller]:
        """The client pod keeps asking a Service, and tells when the answer becomes another one."""
        self.serve("serve")
        with self.stage.traffic.poller(self.client, target) as poller:
            yield poller

    # Cells.

    def cell(
        self,
        chart: str,
        *,
        unit: Unit,
        better: Better,
        measured: Measured,
        limit: Measured | None = None,
        limited_by: str = "",
        series: str = "",
        value: Callable[[Sample], float] | None = None,
        repeats: int = REPEATS,
        note: str = "",
    ) -> Cell:
        """Measure a cell and keep it: repeats, beside their limits (A-B-A) where there is one.

        `value` is what counts of a Sample: by default p50 where the unit is seconds, else what it did per second. A
        limit that does not stand still, connections that fail throughout, or a tool that is not installed make the
        cell unfit.
        """
        taken = Taken(value or VALUES.get(unit, VALUES["1/s"]))
        outcome: dict[str, object] = {}
        try:
            with stolen() as steal:
                if limit is None:
                    values = [taken.of(measured()) for _ in range(repeats)]
                    outcome = {"values": tuple(values)}
                else:
                    beside, best = limit, self._best_of(limit, unit, better)
                    rounds = in_turns(lambda: taken.of(measured()), lambda: taken.limit_of(beside()), repeats, best)
                    if rounds.why_unfit:
                        outcome = {"outcome": "unfit", "reason": rounds.why_unfit}
                    else:
                        outcome = {
                            "values": tuple(one.value for one in rounds.steady),
                            "limits": tuple(one.limit for one in rounds.steady),
                        }
        except (TrafficError, UnfitError) as error:
            outcome = {"outcome": "unfit", "reason": str(error)}
        made = Cell(
            chart=chart,
            series=series,
            services=self.services,
            endpoints=self.shape.each,
            unit=unit,
            better=better,
            limited_by=limited_by,
            percentiles=taken.percentiles() if "values" in outcome else {},
            failures=taken.failures,
            steal=steal.share,
            note=note,
            **outcome,  # type: ignore[arg-type]
        )
        return self.add(made)

    def _best_of(self, limit: Measured, unit: Unit, better: Better) -> Best | None:
        """What this limit was at best in the whole run, if it is one that other cells have too."""
        if not isinstance(limit, Direct):
            return None
        return self.best.setdefault((limit.kind, limit.pace, unit), Best(better == "more"))

    def cell_of(
        self,
        chart: str,
        *,
        unit: Unit,
        better: Better,
        values: Sequence[float],
        limits: Sequence[float] = (),
        limited_by: str = "",
        series: str = "",
        note: str = "",
    ) -> Cell:
        """Keep a cell of values that were measured in some other way than in turns with their limit."""
        made = Cell(
            chart=chart,
            series=series,
            services=self.services,
            endpoints=self.shape.each,
            unit=unit,
            better=better,
            values=tuple(values),
            limits=tuple(limits),
            limited_by=limited_by,
            note=note,
        )
        return self.add(made)

    def leave_out(self, chart: str, *, series: str, unit: Unit, reason: str) -> Cell:
        """Keep a cell that says why it was not measured."""
        return self.add(
            Cell(chart, series, self.services, self.shape.each, unit, "none", outcome="left out", reason=reason)
        )

    def add(self, cell: Cell) -> Cell:
        """Keep a cell that was measured in some other way."""
        self.cells.append(cell)
        self.record.observed = "; ".join(in_words(one) for one in self.cells)
        self.keep(cell)
        return cell

    def close(self) -> None:
        """End what listens at the endpoints."""
        self.serve_nothing()
