# SPDX-License-Identifier: Apache-2.0
"""Known bugs: which failures look like one, and what is wrong with an entry. A whole run: test_deviations.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.errors import UsageError
from plugins import known_bugs
from plugins.deviations import System
from plugins.known_bugs import KnownBug, looks_like
from plugins.requirements import ids_in
from plugins.session import CONFORMANCE

ENTRY: dict[str, Any] = {
    "issue": "kubernetes#42",
    "requirement": "mini.refused",
    "proxy": "kube-proxy",
    "modes": ["iptables", "nftables"],
    "since": "1.30",
    "until": "1.36",
    "pattern": "outcome (timeout|reset)",
}
IDS = frozenset({"mini.refused"})
HERE = System("kube-proxy", "iptables", (1, 36))
SAYS = "kubernetes#42: https://github.com/kubernetes/kubernetes/issues/42"


@pytest.mark.parametrize(
    ("requirement", "system", "observed", "says"),
    [
        ("mini.refused", HERE, "observed outcome reset, but should be refused", SAYS),
        ("mini.refused", HERE, "observed outcome reply", None),
        ("mini.other", HERE, "outcome timeout", None),
        ("mini.refused", System("kube-proxy", "ipvs", (1, 36)), "outcome timeout", None),
        ("mini.refused", System("kube-proxy", "iptables", (1, 37)), "outcome timeout", None),
        ("mini.refused", System("ebpf", "ebpf", (1, 36)), "outcome timeout", None),
    ],
)
def test_what_looks_like_it(requirement: str, system: System, observed: str, says: str | None) -> None:
    bug = KnownBug.parse(ENTRY, IDS)
    assert looks_like([bug], requirement, system, observed) == says


def test_a_project_may_have_another_owner() -> None:
    bug = KnownBug.parse({**ENTRY, "issue": "cloudnativelabs/kube-router#1040"}, IDS)
    assert str(bug) == "cloudnativelabs/kube-router#1040: https://github.com/cloudnativelabs/kube-router/issues/1040"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"issue": "42"}, "has issue: '42', which must look like kubernetes#12345"),
        ({"pattern": "("}, "has a pattern that is no regular expression: missing ), unterminated subpattern"),
        ({"requirement": "mini.gone"}, "names the requirement 'mini.gone', which conformance/ does not have"),
        ({"why": "x"}, "has the unknown key 'why'"),
    ],
)
def test_what_is_wrong_is_one_sentence(change: dict[str, str], sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "bugs.yaml"
    file.write_text(yaml.safe_dump([{**ENTRY, **change}]), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        known_bugs.load(IDS, file)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("known_bugs.yaml: ")


def test_those_of_conformance_are_in_order() -> None:
    assert known_bugs.load(ids_in(CONFORMANCE))


def test_there_may_be_none(tmp_path: Path) -> None:
    assert known_bugs.load(IDS, tmp_path / "absent.yaml") == ()
