# SPDX-License-Identifier: Apache-2.0
"""Arranging in batches: many arrangements share one settle, and each one's trouble stays its own."""

from plugins.scheduling import TOGETHER
from tests.plugin.miniature import HEAD
from tests.plugin.runs import Finished, runs

# Two generations each: see plugins/settle.py.
GENERATIONS = 2

MANY = (
    HEAD
    + """
def made(world, protocol):
    return world.service(endpoints=world.backends(1), labels={"protocol": protocol})

def other(world):
    return world.service(endpoints=world.backends(2))

def pair(world):
    return world.service(endpoints=world.backends(1)), world.service(endpoints=[])

@req("mini.by-axis", arrange=made)
@everywhere(vantage=["pod", "node"], protocol=["TCP", "UDP"])
def test_by_axis(service, vantage, protocol):
    assert service.labels == {"protocol": protocol}
    reach(vantage, service)

@req("mini.shared", arrange=other)
@everywhere(vantage=["pod"])
def test_shared(service, vantage):
    reach(vantage, service)

@req("mini.shared-again", arrange=other)
@everywhere(vantage=["node"])
def test_shared_again(service, vantage):
    reach(vantage, service)

@req("mini.pair", arrange=pair)
@everywhere(vantage=["pod"])
def test_pair(service, vantage):
    for one in service:
        reach(vantage, one)
"""
)


@runs(files={"test_many.py": MANY})
def test_all_arrangements_cost_one_settle(finished: Finished) -> None:
    assert finished.status == 0
    assert finished.facts()["generations"] == GENERATIONS
    assert [one["settle_s"] is not None for one in finished.records] == [True] + [False] * 6


@runs(files={"test_many.py": MANY})
def test_an_arrangement_is_made_once_for_each_value_of_its_axes(finished: Finished) -> None:
    """Two protocols, one shared by two requirements, a pair, and the sentinel."""
    facts = finished.facts()
    assert facts["created"] == 2 + 1 + 2 + 1
    assert facts["left"] == []


LARGE = (
    HEAD
    + """
BATCH = 64

def numbered(world, number):
    return world.service(endpoints=world.backends(1))

@req("mini.many", arrange=numbered)
@pytest.mark.parametrize("number", range(BATCH + 6))
def test_many(world, service, number):
    world.vantage("pod").open(service.cluster_ip("IPv4"), "TCP", count=4).must_reach_exactly(service.ready_backends)
    assert len(world.mirror.services) <= BATCH
"""
)


@runs(files={"test_large.py": LARGE})
def test_the_next_batch_is_made_when_it_is_needed_and_the_one_before_deleted(finished: Finished) -> None:
    assert finished.status == 0
    assert finished.facts()["generations"] == 2 * GENERATIONS
    assert finished.facts()["left"] == []


BROKEN = (
    HEAD
    + """
def good(world):
    return world.service(endpoints=world.backends(1))

def bad(world):
    world.service(endpoints=world.backends(1))
    raise LookupError("no such thing")

def refused(world):
    return world.service(endpoints=world.backends(1), port=99999)

def asserts(world):
    assert not world.nodes, "an arrangement has nothing to judge"

@req("mini.first-good", arrange=good)
@everywhere(vantage=["pod"])
def test_first_good(service, vantage):
    reach(vantage, service)

@req("mini.bad", arrange=bad)
@everywhere(vantage=["pod", "node"])
def test_bad(service, vantage):
    raise AssertionError("never reached")

@req("mini.refused", arrange=refused)
def test_refused(service):
    raise AssertionError("never reached")

@req("mini.asserts", arrange=asserts)
def test_asserts(service):
    raise AssertionError("never reached")

@req("mini.last-good", arrange=good)
@everywhere(vantage=["node"])
def test_last_good(service, vantage):
    reach(vantage, service)
"""
)


@runs(files={"test_broken.py": BROKEN})
def test_an_arrangement_that_breaks_makes_only_its_own_tests_unknown(finished: Finished) -> None:
    assert finished.status == 3
    assert finished.outcomes() == {
        "mini.first-good": {"pass"},
        "mini.bad": {"unknown"},
        "mini.refused": {"unknown"},
        "mini.asserts": {"unknown"},
        "mini.last-good": {"pass"},
    }
    reasons = {one["id"]: str(one["reason"]) for one in finished.records}
    assert reasons["mini.bad"] == "no such thing"
    assert "99999" in reasons["mini.refused"]
    assert reasons["mini.asserts"].startswith("an arrangement has nothing to judge")


@runs(files={"test_broken.py": BROKEN})
def test_what_a_broken_arrangement_made_is_deleted(finished: Finished) -> None:
    facts = finished.facts()
    assert facts["created"] == 1 + 1 + 1
    assert facts["left"] == []
    assert facts["generations"] == GENERATIONS


TRANSITIONS = (
    HEAD
    + """
def good(world):
    return world.service(endpoints=world.backends(1))

@req("mini.transition")
@everywhere(vantage=["pod"])
def test_transition(world, vantage):
    assert not world.mirror.services, "the last batch is gone"
    service = world.service(endpoints=world.backends(1))
    world.settle()
    service.set_endpoints(world.backends(2))
    world.settle()
    reach(vantage, service)

@req("mini.arranged", arrange=good)
@everywhere(vantage=["pod"])
def test_arranged(service, vantage):
    reach(vantage, service)
"""
)


@runs(files={"test_transitions.py": TRANSITIONS})
def test_transitions_come_later_and_pay_for_themselves(finished: Finished) -> None:
    assert [one["id"] for one in finished.records] == ["mini.arranged", "mini.transition"]
    assert finished.facts()["generations"] == (1 + 2) * GENERATIONS
    arranged, transition = finished.records
    assert transition["settle_s"] > 0
    assert arranged["settle_s"] > 0


CHANGES = (
    HEAD
    + """
from plugins.scheduling import TOGETHER

def one(world):
    return world.service(endpoints=world.backends(1))

@req("mini.steady", arrange=one)
@everywhere(vantage=["pod"])
def test_steady(service, vantage):
    reach(vantage, service)

@req("mini.changes", arrange=one, changes=True)
@pytest.mark.parametrize("number", range(TOGETHER + 2))
def test_changes(world, service, number):
    in_force = world.mirror.services
    assert service.name in in_force
    assert len(service.endpoints) == 1, "nobody else's changes are seen"
    assert len(in_force) <= TOGETHER
    reach(world.vantage("pod"), service)
    service.set_endpoints(world.backends(2))
    world.settle()
    assert len(world.mirror.services) == (TOGETHER - number if number < TOGETHER else TOGETHER + 2 - number)
    reach(world.vantage("pod"), service)

@req("mini.alone")
def test_alone(world):
    assert not world.mirror.services, "nothing is left for a test that arranges by itself"
    service = world.service(endpoints=world.backends(1))
    world.settle()
    reach(world.vantage("pod"), service)
"""
)
TRANSITIONS_IN_IT = TOGETHER + 2


@runs(files={"test_changes.py": CHANGES})
def test_first_states_of_transitions_share_a_settle_and_nothing_else(finished: Finished) -> None:
    """A settle for the steady ones, one for each of two pieces, one for each change, and one for the last test."""
    assert finished.outcomes() == {"mini.steady": {"pass"}, "mini.changes": {"pass"}, "mini.alone": {"pass"}}
    assert finished.facts()["generations"] == (1 + 2 + TRANSITIONS_IN_IT + 1) * GENERATIONS
    assert finished.facts()["created"] == 1 + TRANSITIONS_IN_IT + 1 + 1
    assert finished.facts()["left"] == []


@runs(
    "-k",
    "test_changes and 3",
    files={"test_changes.py": CHANGES.replace("assert len(world.mirror.services) ==", "#")},
)
def test_a_transition_that_runs_alone_arranges_for_itself_alone(finished: Finished) -> None:
    assert finished.outcomes() == {"mini.changes": {"pass"}}
    transitions = len(finished.records)
    assert transitions == sum("3" in str(number) for number in range(TRANSITIONS_IN_IT))
    assert finished.facts()["created"] == transitions + 1


BROKEN_FIRST_STATES = (
    HEAD
    + """
def one(world):
    return world.service(endpoints=world.backends(1))

def bad(world):
    world.service(endpoints=world.backends(1))
    raise LookupError("no such thing")

@req("mini.good", arrange=one, changes=True)
def test_good(world, service):
    reach(world.vantage("pod"), service)

@req("mini.bad", arrange=bad, changes=True)
def test_bad(service):
    raise AssertionError("never reached")

@req("mini.not-asked-for", arrange=one, changes=True)
def test_not_asked_for(world):
    pass

@req("mini.last-good", arrange=one, changes=True)
def test_last_good(world, service):
    assert len(world.mirror.services) == 4, "those before it wait for the next settle"
    world.settle()
    assert len(world.mirror.services) == 2, "what nobody asked for stays until the batch is cleared"
    reach(world.vantage("pod"), service)
"""
)


@runs(files={"test_broken.py": BROKEN_FIRST_STATES})
def test_a_first_state_that_breaks_makes_only_its_own_test_unknown(finished: Finished) -> None:
    assert finished.outcomes() == {
        "mini.good": {"pass"},
        "mini.bad": {"unknown"},
        "mini.not-asked-for": {"pass"},
        "mini.last-good": {"pass"},
    }
    assert finished.facts()["generations"] == (1 + 1) * GENERATIONS
    assert finished.facts()["left"] == []
