# SPDX-License-Identifier: Apache-2.0
"""Requirements that conformance/ has no reason to hold: one for each outcome, and ways to write them wrongly."""

HEAD = """
import pytest
from dataclasses import replace
from plugins.requirements import everywhere, requirement
from plugins.slices import Endpoint

def req(id, *, level="extended", should=None, must="It MUST be so.", since="1.0", **more):
    sentence = {"should": should} if should else {"must": must}
    return requirement(id, level=level, since=since, source="https://kubernetes.io/", **sentence, **more)

def reach(vantage, service):
    for frontend, protocol in service.every_cluster_ip():
        flows = vantage.open(frontend, protocol, count=service.enough_to_see_every_endpoint())
        flows.must_reach_exactly(service.ready_backends)
"""

# One test for each outcome, named after it. Under the lie `resets` only refusals go wrong.
EVERY_OUTCOME = (
    HEAD
    + """
def served(world):
    return world.service(endpoints=world.backends(2))

def nobody(world):
    return world.service(endpoints=[])

def breaks(world):
    raise RuntimeError("the arrangement broke")

@req("mini.pass", arrange=served)
@everywhere(vantage=["pod"])
def test_pass(service, vantage):
    reach(vantage, service)

@req("mini.fail", level="core", arrange=nobody)
@everywhere(vantage=["pod"])
def test_fail(service, vantage):
    reach(vantage, service)

@req("mini.fail-by-word")
def test_fail_by_word(world):
    pytest.fail("said so")

@req("mini.warned", should="It SHOULD be so.", arrange=nobody)
@everywhere(vantage=["pod"])
def test_warned(service, vantage):
    reach(vantage, service)

@req("mini.should-be-and-is", should="It SHOULD be so.", arrange=served)
@everywhere(vantage=["pod"])
def test_pass_should(service, vantage):
    reach(vantage, service)

@req("mini.recorded", level="record", arrange=nobody)
@everywhere(vantage=["pod"])
def test_recorded(service, vantage):
    reach(vantage, service)

@req("mini.recorded-as-met", level="record", arrange=served)
@everywhere(vantage=["pod"])
def test_recorded_as_met(service, vantage):
    reach(vantage, service)

@req("mini.known", arrange=nobody)
@everywhere(vantage=["pod"])
def test_known_failure(service, vantage):
    reach(vantage, service)

@req("mini.stale", arrange=served)
@everywhere(vantage=["pod"])
def test_stale_known_failure(service, vantage):
    reach(vantage, service)

@req("mini.feature", features=["maglev"])
def test_unsupported_feature(world):
    raise AssertionError

@req("mini.declared", features=["affinity"])
def test_pass_declared(world):
    pass

@req("mini.since", since="1.99")
def test_unsupported_since(world):
    raise AssertionError

@req("mini.until", until="1.20")
def test_unsupported_until(world):
    raise AssertionError

@req("mini.unfit-need", level="core", needs=["bpf"])
def test_unfit_need(world):
    raise AssertionError

@req("mini.unfit-nodes", needs=["nodes:9"])
def test_unfit_nodes(world):
    raise AssertionError

@req("mini.unknown")
def test_unknown(world):
    raise RuntimeError("the test broke")

@req("mini.unknown-arrangement", arrange=breaks)
def test_unknown_arrangement(service):
    pass
"""
)
KNOWN = "mini.known   # https://example.invalid/1\n\n# a comment\nmini.stale\n"
FEATURES = "features: [affinity]\nsettle: ordered\n"
