# SPDX-License-Identifier: Apache-2.0
"""The queue under load: everything once, in its order, and again only where a connection broke."""

from dataclasses import dataclass, field

from clusters.measure.broker import Broker


@dataclass(eq=False)
class Client:
    """A connection that keeps what it was told."""

    heard: list[bytes] = field(default_factory=list)

    def tell(self, line: bytes) -> None:
        self.heard.append(line)


def test_what_is_put_is_given_in_its_order() -> None:
    broker, producer, consumer = Broker(), Client(), Client()
    for name in (b"a 1", b"b 2"):
        broker.take_in(producer, name)
    for _ in range(2):
        broker.give(consumer)
    assert producer.heard == [b"OK", b"OK"]
    assert consumer.heard == [b"MSG a 1", b"MSG b 2"]


def test_who_gets_first_waits_for_what_is_put() -> None:
    broker, producer, consumer = Broker(), Client(), Client()
    broker.give(consumer)
    assert consumer.heard == []
    broker.take_in(producer, b"a")
    assert (producer.heard, consumer.heard) == ([b"OK"], [b"MSG a"])


def test_who_puts_into_a_full_queue_waits_for_room() -> None:
    broker, producer, consumer = Broker(room=1), Client(), Client()
    broker.take_in(producer, b"a")
    broker.take_in(producer, b"b")
    assert producer.heard == [b"OK"]
    broker.give(consumer)
    assert (producer.heard, broker.put) == ([b"OK", b"OK"], 2)


def test_who_gives_up_is_given_nothing() -> None:
    broker, producer, consumer = Broker(), Client(), Client()
    broker.give(consumer)
    assert broker.give_up(consumer)
    broker.take_in(producer, b"a")
    assert consumer.heard == []
    assert not broker.give_up(consumer)


def test_who_gives_up_putting_has_put_nothing() -> None:
    broker, producer = Broker(room=1), Client()
    broker.take_in(producer, b"a")
    broker.take_in(producer, b"b")
    assert broker.give_up(producer)
    broker.give(Client())
    assert (producer.heard, broker.put) == ([b"OK"], 1)


def test_what_was_not_acknowledged_is_given_again_and_first() -> None:
    broker, producer, first, second = Broker(), Client(), Client(), Client()
    for name in (b"a", b"b", b"c"):
        broker.take_in(producer, name)
    broker.give(first)
    broker.acknowledge(first, b"a")
    broker.give(first)
    broker.hung_up(first)
    broker.give(second)
    assert second.heard == [b"MSG b"]
    assert broker.state() == {"put": 3, "acknowledged": 1, "given_again": 1, "left": ["c", "b"]}


def test_a_message_of_a_broken_connection_is_not_taken_in() -> None:
    broker, producer = Broker(room=1), Client()
    broker.take_in(producer, b"a")
    broker.take_in(producer, b"b")
    broker.hung_up(producer)
    assert broker.state()["left"] == ["a"]
