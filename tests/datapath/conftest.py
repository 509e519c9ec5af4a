# SPDX-License-Identifier: Apache-2.0
"""A datapath of this kernel for the tests that need one."""

import os
from collections.abc import Iterator

import pytest

from dataplane_ref.loader import LoadError
from tests.datapath.bench import Bench
from tests.datapath.network import Network


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("unfit: needs root")
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="session")
def loaded_bench(network: Network) -> Iterator[Bench]:
    with network.entered():
        bench = Bench(sizes={"flows": 4096, "affinities": 4096})  # small ones are soon emptied
        try:
            bench.__enter__()
        except LoadError as error:
            pytest.skip(f"unfit: {error}")
        assert bench.interfaces
    yield bench
    bench.__exit__()


@pytest.fixture
def node(loaded_bench: Bench, network: Network) -> Iterator[Bench]:
    """A node without Services, in its own network."""
    with network.entered():
        loaded_bench.reset()
        yield loaded_bench
