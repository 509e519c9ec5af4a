# SPDX-License-Identifier: Apache-2.0
"""Load while pods are replaced one by one, in good order and without."""

import pytest

from conformance.sources import POD_LIFECYCLE, TERMINATING
from plugins.load.order import CONNECTIONS, DATAGRAMS, HTTP_NEW, TCP_LINE
from plugins.load.results import must_have_answered
from plugins.requirements import requirement


@pytest.mark.load
@requirement(
    "load.drain.graceful",
    must="A request over a connection MUST NOT fail while a Service's pods are replaced one by one, each of which "
    "serves while its endpoint terminates, drains its connections, and then ends.",
    level="extended",
    since="1.26",
    source=TERMINATING,
)
def test_graceful_drain_fails_no_request(load):
    must_have_answered(rolled(load, CONNECTIONS), "while pods were replaced in good order")


@pytest.mark.load
@requirement(
    "load.drain.datagrams",
    should="A datagram SHOULD NOT be lost while a Service's pods are replaced one by one in good order.",
    level="extended",
    since="1.26",
    source=TERMINATING,
)
def test_graceful_drain_loses_no_datagram(load):
    must_have_answered(rolled(load, DATAGRAMS), "while pods were replaced in good order")


def rolled(load, kinds):
    """What came of load on three pods of which each was replaced once."""
    pods = load.pods(3)

    with load.on(pods, dict.fromkeys(kinds, 4)) as traffic:
        for pod in tuple(pods.ready):
            traffic.go_on(load.seconds / 10)
            pods.replace(pod)
        traffic.go_on(load.seconds / 10)
    return traffic.result.only(kinds)


@pytest.mark.load
@requirement(
    "load.control.crash-shows",
    must="A pod that is killed without a word MUST show as failed requests, until its endpoint is removed: "
    "or else none of what passes here would prove anything.",
    level="extended",
    since="1.0",
    source=POD_LIFECYCLE + "#pod-termination-forced",
)
def test_crash_shows(load):
    pods = load.pods(3)

    with load.on(pods) as traffic:
        traffic.go_on(load.seconds / 5)
        gone = pods.ready[0]
        pods.crash(gone)
        # A quarter of them each, of which a third goes to the crashed one: no run in 6e8 misses it.
        traffic.until_asked(200)
        pods.forget(gone)

    load.expect("requests fail, since a third of the endpoints is gone")
    # Connections that are kept may all have been with the others.
    for kind in (HTTP_NEW, TCP_LINE):
        failed = traffic.result.of(kind).failed
        assert failed, f"a third of the endpoints had crashed, and no request of the kind {kind!r} has failed"
