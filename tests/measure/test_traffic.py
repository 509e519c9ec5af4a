# SPDX-License-Identifier: Apache-2.0
"""The measuring client is exact: what it counts is what a server has seen, and its times are those a server took."""

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusters.errors import PlumblineError
from clusters.measure.traffic import MOST_URGENT, Bin, Client, Pace, Poller, Sample, TrafficError, running, urged
from tests.measure.conftest import WARM_UP, Told, serving

REQUESTS = 100  # of a connection of `hundred`


def measure(
    program: str,
    kind: str,
    seconds: float,
    pace: Pace | None = None,
    targets: Sequence[tuple[str, int]] = (),
) -> Sample:
    """A run of the client in this process's own network."""
    command = [program, kind, "0", str(seconds), *((pace or Pace()).words() if kind != "bulk" else [])]
    with running(command, subprocess.PIPE, subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{address} {port}\n" for address, port in targets))
        process.stdin.close()
        return Client(process, kind, 30.0).ended()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    return port


def test_connections_are_those_that_the_server_has_seen(program: str) -> None:
    with serving(Told()) as told:
        sample = measure(program, "rate", 0.2, targets=[("127.0.0.1", told.port)])
        assert sample.failures == 0
        assert (told.connections, told.requests) == (sample.count + WARM_UP, sample.count + WARM_UP)
        assert 0.2 <= sample.seconds < 0.5


def test_ipv6_is_dialled_too(program: str) -> None:
    with serving(Told(), socket.AF_INET6) as told:
        sample = measure(program, "rate", 0.05, targets=[("::1", told.port)])
        assert told.connections == sample.count + WARM_UP


def test_all_targets_are_dialled(program: str) -> None:
    with serving(Told()) as one, serving(Told()) as other:
        sample = measure(program, "rate", 0.1, targets=[("127.0.0.1", one.port), ("127.0.0.1", other.port)])
        assert one.connections + other.connections == sample.count + WARM_UP
        assert min(one.connections, other.connections) > 0.3 * (sample.count + WARM_UP)


def test_requests_share_one_connection(program: str) -> None:
    with serving(Told()) as told:
        sample = measure(program, "request", 0.05, targets=[("127.0.0.1", told.port)])
        assert (told.connections, told.requests) == (1, sample.count + WARM_UP)


def test_a_hundred_requests_share_a_connection(program: str) -> None:
    with serving(Told()) as told:
        sample = measure(program, "hundred", 0.05, targets=[("127.0.0.1", told.port)])
        assert told.requests == REQUESTS * told.connections == sample.count + WARM_UP


def test_times_are_those_that_the_server_took(program: str) -> None:
    with serving(Told(delay=0.02)) as told:
        sample = measure(program, "request", 0.5, targets=[("127.0.0.1", told.port)])
        assert 0.020 <= sample.p01 <= sample.p50 <= sample.p90 <= sample.p99 <= sample.worst
        assert sample.count <= 0.5 / 0.02 + 1
        assert sample.count == pytest.approx(sample.seconds / sample.p50, rel=0.5)


def test_a_timetable_is_kept(program: str) -> None:
    with serving(Told()) as told:
        sample = measure(program, "rate", 0.5, Pace(rate=200), [("127.0.0.1", told.port)])
        assert sample.count == 100
        assert told.connections == 100 + WARM_UP
        assert sample.seconds >= 0.49


def test_with_a_timetable_a_stall_is_felt_by_all_that_were_due(program: str) -> None:
    """A client that waits for an answer before it asks again would have seen one of them."""
    with serving(Told(stall_at=10, stall=0.3)) as told:
        sample = measure(program, "rate", 1.0, Pace(rate=100, bin=0.1), [("127.0.0.1", told.port)])
        assert sample.count == 100
        assert sample.worst > 0.29
        # Thirty of the hundred were due during the stall, and a sixth of them waited for five sixths of it.
        assert sample.p90 > 0.15


def test_without_a_timetable_a_stall_is_felt_by_one(program: str) -> None:
    with serving(Told(stall_at=10, stall=0.3)) as told:
        sample = measure(program, "rate", 1.0, Pace(bin=0.1), [("127.0.0.1", told.port)])
        assert sample.worst > 0.29
        assert sample.p99 < 0.15
        assert any(one.count == 0 for one in sample.bins)


def test_bins_have_everything(program: str) -> None:
    with serving(Told()) as told:
        sample = measure(program, "rate", 0.5, Pace(bin=0.1), [("127.0.0.1", told.port)])
        assert 5 <= len(sample.bins) <= 6
        assert sum(one.count for one in sample.bins) == sample.count
        assert max(one.worst for one in sample.bins) == pytest.approx(sample.worst)
        assert isinstance(sample.bins[0], Bin)


def test_refused_connections_are_counted_where_that_is_asked_for(program: str) -> None:
    sample = measure(program, "rate", 0.05, Pace(failures=None), [("127.0.0.1", free_port())])
    assert sample.count == 0
    assert sample.failures > 100


def test_too_many_failures_are_an_error(program: str) -> None:
    with pytest.raises(TrafficError, match="too many connections failed, the last one: Connection refused"):
        measure(program, "connect", 0.05, targets=[("127.0.0.1", free_port())])


def test_patience_ends(program: str) -> None:
    with serving(Told(is_silent=True)) as told:
        pace = Pace(failures=None, patience=0.002)
        sample = measure(program, "rate", 0.1, pace, [("127.0.0.1", told.port)])
        assert sample.count == 0
        assert 5 <= sample.failures <= 50


def test_no_target_is_an_error(program: str) -> None:
    with pytest.raises(TrafficError, match="stdin"):
        measure(program, "connect", 0.05)


def test_measuring_nothing_costs_next_to_nothing(program: str) -> None:
    sample = measure(program, "empty", 0.05)
    assert sample.p50 < 2e-6
    assert sample.seconds / sample.count < 2e-6


@pytest.mark.parametrize(("kind", "server"), [("connect", "absorb"), ("flow", "gulp"), ("bulk", "sink")])
def test_each_kind_has_a_server(program: str, kind: str, server: str) -> None:
    port = free_port()
    with running([program, server, "0", str(port)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        sample = measure(program, kind, 0.05, targets=[("127.0.0.1", port)])
        assert sample.count > 10
        assert sample.failures == 0


def test_a_poller_tells_each_change_once(program: str) -> None:
    letters, port = [], str(free_port())
    with running([program, "poll", "0", "127.0.0.1", port], stdin=subprocess.PIPE) as poller:
        assert poller.stdout is not None
        letters.append(poller.stdout.readline().split()[1])
        with running([program, "serve", "0", port, "q"]):
            letters.append(poller.stdout.readline().split()[1])
        letters.append(poller.stdout.readline().split()[1])
    assert letters == ["-", "q", "-"]


@contextmanager
def telling(*lines: str) -> Iterator[tuple[Poller, Callable[[str], object]]]:
    """A poller whose program has written these lines, and a way to write more of them."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as program:
        assert program.stdin is not None
        poller = Poller(program)
        for line in lines:
            program.stdin.write(f"{line}\n")
        yield poller, program.stdin.write
        program.stdin.close()


def test_an_answer_that_does_not_last_is_not_awaited() -> None:
    with telling("1000000000 a", "2000000000 -", "3000000000 a", "4000000000 -") as (poller, _):
        assert poller.await_answer("-", calm=0.1) == 4.0
    with telling("1000000000 a", "2000000000 -", "3000000000 a") as (poller, _):
        assert poller.await_answer("-") == 2.0


def test_an_answer_may_still_change_while_it_is_awaited_calmly() -> None:
    with telling("1000000000 -") as (poller, write):
        late = threading.Timer(0.1, write, ["2000000000 a\n3000000000 -\n"])
        late.start()
        assert poller.await_answer("-", calm=0.5) == 3.0


def test_an_answer_that_never_comes_is_an_error() -> None:
    with telling("1000000000 a") as (poller, _), pytest.raises(PlumblineError, match=r"the answer 'b' within 0\.1 s"):
        poller.await_answer("b", within=0.1)
    with telling() as (poller, _), pytest.raises(PlumblineError, match="did not get the answer 'a'"):
        poller.await_answer("a", calm=1.0, within=0.05)


def test_a_session_that_was_urged_is_as_before_afterwards() -> None:
    group = Path("/proc/self/autogroup")
    if not group.exists():
        pytest.skip("unfit: this kernel has no autogroups")
    before = group.read_text()
    with urged():
        inside = group.read_text()
    assert inside == re.sub(r"nice .*", f"nice {MOST_URGENT}", before) or os.geteuid() != 0
    assert group.read_text() == before


def test_cpu_time_is_the_client_s_own(program: str) -> None:
    """One that waits for its server has next to none; one that never waits has all."""
    with serving(Told(delay=0.02)) as told:
        sample = measure(program, "request", 0.5, targets=[("127.0.0.1", told.port)])
    assert 0 < sample.cpu < 0.1
    busy = measure(program, "empty", 0.2)
    assert busy.cpu <= busy.seconds * 1.01
