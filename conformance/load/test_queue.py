# SPDX-License-Identifier: Apache-2.0
"""A queue behind a Service, with ten who put messages and ten who get them, while other Services come and go."""

import pytest

from conformance.sources import VIRTUAL_IPS
from plugins.load.bench import QUEUE_USERS
from plugins.load.order import QUEUE
from plugins.load.results import must_have_answered
from plugins.requirements import requirement


@pytest.mark.load
@requirement(
    "load.queue.each-message-once",
    must="Each message that is put into a queue behind a Service MUST arrive exactly once, while other Services are "
    "added and removed.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_each_message_arrives_once(load):
    pods = load.pods(1)

    with load.churn(10) as others, load.on(pods, QUEUE_USERS, pace=0) as traffic:
        others.go_on(traffic)

    messages = load.account(traffic, pods)
    load.note(messages=messages.as_dict())
    must_have_answered(traffic.result.only(QUEUE), "while messages went through a queue")
    messages.must_be_whole()
