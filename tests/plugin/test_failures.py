# SPDX-License-Identifier: Apache-2.0
"""The text of a failure: five lines, each one line, whatever is put into them."""

from dataclasses import replace
from pathlib import Path

import pytest

from clusters.observation import Address, FlowOutcome, Observation
from plugins.failures import five_lines, save_artefacts
from plugins.record import Record
from plugins.requirements import Requirement
from tests.plugin.runs import LABELS

REQUIREMENT = Requirement(
    id="topic.what",
    sentence="A thing MUST be so.",
    strength="must",
    level="core",
    since="1.26",
    source="https://kubernetes.io/",
)
SEEN = Observation(
    vantage="node-a.pod-1",
    node="node-a",
    frontend="ClusterIP 10.96.0.7:80",
    protocol="TCP",
    family="IPv4",
    src=Address("10.244.0.2", 40000),
    dst=Address("10.96.0.7", 80),
    outcome=FlowOutcome.TIMEOUT,
)


def record(*seen: Observation) -> Record:
    made = Record("topic.what", "core", "A thing MUST be so.", "test_x", {})
    if seen:
        made.saw(seen, "outcome: reply\nanswer: 10.244.0.2:8080, seeing it", "1 × timeout")
    return made


def text(of: Record) -> list[str]:
    return five_lines(
        REQUIREMENT, of, "observed outcome timeout,\n  but should be reply", "pytest x", "kernel 6"
    ).split("\n")


def test_five_lines_in_this_order() -> None:
    lines = text(record(SEEN))
    assert [line.split()[0] for line in lines] == list(LABELS)
    assert lines == [
        "requirement  topic.what (core, since 1.26): A thing MUST be so.",
        "expected     outcome: reply; answer: 10.244.0.2:8080, seeing it",
        "observed     outcome timeout,; but should be reply [1 × timeout]",
        "where        node-a.pod-1 (pod on node-a) to ClusterIP 10.96.0.7:80, TCP, IPv4; kernel 6",
        "reproduce    pytest x",
    ]


def test_before_the_first_probe() -> None:
    lines = text(record())
    assert lines[1] == "expected     (nothing was asked of the model before it failed)"
    assert lines[2] == "observed     outcome timeout,; but should be reply"
    assert lines[3] == "where        before the first probe; kernel 6"


@pytest.mark.parametrize(
    ("vantage", "node", "where"),
    [
        ("node-a.pod-1", "node-a", "node-a.pod-1 (pod on node-a) to "),
        ("node-a", "node-a", "node-a (host network) to "),
        ("client-ext", None, "client-ext (outside) to "),
    ],
)
def test_where_names_the_kind_of_place(vantage: str, node: str | None, where: str) -> None:
    assert str(record(replace(SEEN, vantage=vantage, node=node)).where).startswith(where)


def test_a_note_and_attachments_come_after_the_five() -> None:
    made = record(SEEN)
    made.reason = "not settled\nafter 10 s"
    made.artefacts = ["report/artefacts/topic.what/a.txt", "report/artefacts/topic.what/b.txt"]
    assert text(made)[5:] == [
        "note         not settled; after 10 s",
        "attached     report/artefacts/topic.what/ (2 files)",
    ]


def test_a_bug_it_looks_like_is_named() -> None:
    shown = five_lines(REQUIREMENT, record(SEEN), "observed x", "pytest x", "kernel 6", "kubernetes#7: https://x/7")
    assert shown.split("\n")[5:] == ["looks like   kubernetes#7: https://x/7"]


def test_a_record_speaks_of_its_latest_probe() -> None:
    made = record(SEEN)
    made.saw([replace(SEEN, protocol="UDP")] * 5, "later", "5 × timeout")
    assert made.expected == "later"
    assert made.observed == "5 × timeout"
    assert [one["protocol"] for one in made.observations] == ["UDP"] * 3
    assert str(made.where).endswith("UDP, IPv4")


def test_artefacts_are_files_named_after_their_commands(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "node-a.ip -6 route.txt": "routes",
        "node-a.cat /proc/x.txt": "é",
        "node-a.pcap": b"\xff",
    }
    saved = save_artefacts(tmp_path, "topic.what-IPv4", files)
    assert [Path(one).name for one in saved] == ["node-a.ip--6-route.txt", "node-a.cat-_proc_x.txt", "node-a.pcap"]
    folder = tmp_path / "artefacts" / "topic.what-IPv4"
    assert sorted(one.read_bytes() for one in folder.iterdir()) == [b"routes", "é".encode(), b"\xff"]
