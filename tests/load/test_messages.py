# SPDX-License-Identifier: Apache-2.0
"""Lost messages and messages that came twice are found, and named."""

import pytest

from plugins.load.messages import Account, account


def test_what_arrived_once_or_is_still_there_is_whole() -> None:
    found = account(["put a", "got a", "put b"], left=["b"])
    assert found == Account(put=2, got=1, lost=(), twice=())
    found.must_be_whole()


def test_a_message_may_arrive_though_nobody_told_its_sender() -> None:
    account(["got a", "put b", "got b"], left=[]).must_be_whole()


def test_a_lost_message_is_named() -> None:
    found = account(["put a", "put b", "got b"], left=[])
    with pytest.raises(AssertionError, match=r"^1 of 2 messages were lost: a$"):
        found.must_be_whole()


def test_a_message_that_came_twice_is_named() -> None:
    found = account(["put a", "got a", "got a"], left=[])
    with pytest.raises(AssertionError, match=r"^1 of 1 messages were delivered twice: a$"):
        found.must_be_whole()


def test_the_first_three_of_many_are_named() -> None:
    found = account([f"put {name}" for name in "abcde"], left=[])
    with pytest.raises(AssertionError, match=r"^5 of 5 messages were lost: a, b, c …$"):
        found.must_be_whole()


def test_no_message_at_all_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="nothing is proved"):
        account([], left=[]).must_be_whole()
