# SPDX-License-Identifier: Apache-2.0
"""JUnit's `<failure>` is a judgement and `<error>` is not: an unknown must not be counted against the dataplane.

pytest calls everything that goes wrong in a test itself a failure, so the finished file is put right.
"""

from pathlib import Path
from xml.etree import ElementTree


def unknown_is_an_error(file: Path) -> None:
    """Rewrite a JUnit file: failures of tests whose outcome is unknown become errors, and the counts follow."""
    tree = ElementTree.parse(file)  # noqa: S314 - pytest has just written it
    for suite in tree.iter("testsuite"):
        changed = 0
        for case in suite.iter("testcase"):
            outcome = next((one.get("value") for one in case.iter("property") if one.get("name") == "outcome"), None)
            for failure in case.findall("failure") if outcome == "unknown" else ():
                failure.tag = "error"
                changed += 1
        suite.set("failures", str(int(suite.get("failures", "0")) - changed))
        suite.set("errors", str(int(suite.get("errors", "0")) + changed))
    tree.write(file, encoding="utf-8", xml_declaration=True)
