# SPDX-License-Identifier: Apache-2.0
"""Flows and affinities that are past their time, in the kernel's own maps."""

from collections.abc import Iterator

import pytest

from dataplane_ref.controller import clock
from dataplane_ref.controller.collect import AT_ONCE, Collector
from dataplane_ref.loader import Loaded, LoadError, syscalls
from tests.datapath.cluster import BPF, CODEC
from tests.datapath.conftest import as_root

LATER = 1 << 62
FLOWS = 2 * AT_ONCE + 7


@pytest.fixture
def kernel() -> Iterator[Loaded]:
    as_root()
    try:
        loaded = BPF.load(programs=["plumbline_collect"])
    except LoadError as error:
        if str(error) in (syscalls.NO_PERMISSION, syscalls.NO_BPF):
            pytest.skip(f"unfit: {error}")
        raise
    with loaded:
        yield loaded


def test_what_expired_goes_and_what_lives_stays(kernel: Loaded) -> None:
    maps = kernel.maps
    maps["config"].put(bytes(4), CODEC.layouts["config"].pack(tick_ns=clock.tick_ns()))
    for number in range(2 * FLOWS):
        key = CODEC.layouts["tuple"].pack(source_port=number + 1, protocol=17)
        maps["flows"].put(key, CODEC.layouts["flow"].pack(expires=1 if number < FLOWS else LATER))
        affinity = CODEC.layouts["affinity_key"].pack(service_port=number)
        maps["affinities"].put(affinity, CODEC.layouts["affinity"].pack(expires=1 if number < 3 else LATER))
    said: list[str] = []
    program = kernel.programs["plumbline_collect"]
    collector = Collector(maps["flows"], maps["affinities"], maps["counters"], program, CODEC, said.append)
    assert collector.collect(1000) == (FLOWS, 3)
    assert len(list(maps["flows"].keys())) == FLOWS
    assert len(list(maps["affinities"].keys())) == 2 * FLOWS - 3
    assert collector.collect(1000) == (0, 0)
    assert said == []
