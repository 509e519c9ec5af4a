# SPDX-License-Identifier: Apache-2.0
"""The fixtures of requirements: `world`, `vantage`, `node`, and `service`, what `arrange` returned."""

from collections.abc import Iterator
from typing import Any

import pytest

from clusters.api import Node
from plugins.arrange import Arranger, is_prepared, key_of
from plugins.flows import Prober
from plugins.judging import new_record
from plugins.look import session_run
from plugins.requirements import configuration_of
from plugins.run import Run, workers_of
from plugins.services import Service
from plugins.session import RECORD
from plugins.world import World


@pytest.fixture(scope="session")
def plumbline_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The cluster with its proxy, up for the whole session of this process."""
    with session_run(request.config) as run:
        yield run


@pytest.fixture(scope="session")
def _arranger(plumbline_run: Run, request: pytest.FixtureRequest) -> Iterator[Arranger]:
    arranger = Arranger(plumbline_run.world, request.session.items, workers_of(request.config))
    yield arranger
    if not plumbline_run.broken and not plumbline_run.settings.keeps_lab:
        arranger.clear()


@pytest.fixture
def _configured(plumbline_run: Run, request: pytest.FixtureRequest) -> None:
    """The proxy configured as the requirement needs it; started again only where it is not so already."""
    plumbline_run.configure(configuration_of(request.node))


@pytest.fixture
def world(
    plumbline_run: Run,
    _configured: None,
    _arranger: Arranger,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    """The world, with a record and a scope of this test's own: what it creates is deleted after it."""
    world = plumbline_run.world
    request.node.stash[RECORD] = world.record = new_record(request.node)
    world.record.proxy_config = plumbline_run.configured.as_dict()
    if key_of(request.node) is None:
        _arranger.clear()  # its own settles must not carry a batch that nobody needs any more
    owned: list[Service] = []
    with world.scope(owned):
        yield world
    if plumbline_run.broken:
        return  # there is nobody left to delete anything at, and the test has said so
    # A proxy that died must not let the test after its death pass.
    plumbline_run.proxy.check()
    if plumbline_run.announcer is not None:
        plumbline_run.announcer.check()
    if plumbline_run.settings.keeps_lab and (request.session.shouldfail or request.session.shouldstop):
        world.delete_what_is_done_with()
        return  # the last test's objects are what a person wants to look at
    world.done_with(owned)
    if not is_prepared(request.node):
        world.delete_what_is_done_with()


@pytest.fixture
def service(world: World, _arranger: Arranger, request: pytest.FixtureRequest) -> Any:  # noqa: ARG001
    """What the requirement's `arrange` returned, in force."""
    return _arranger.arranged(request.node)


@pytest.fixture
def vantage(world: World, request: pytest.FixtureRequest) -> Prober:
    """The vantage an axis names: `pod@second`, `node@first`, `outside`."""
    return world.vantage(request.param)


@pytest.fixture
def node(world: World, request: pytest.FixtureRequest) -> Node:
    """The node an axis names by its place: `first`, `second`, `third`."""
    return world.node_at(request.param)
