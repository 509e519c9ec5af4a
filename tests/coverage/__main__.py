# SPDX-License-Identifier: Apache-2.0
"""`make coverage`: docs/coverage.md from the requirements and the two lists in conformance/coverage/."""

import sys

from tests.coverage.page import PAGE, CoverageError, bugs, page, problems, requirements, upstream_tests


def main() -> int:
    """Write the page, and say what the lists lack; exit status 1 if they lack something."""
    try:
        given = (requirements(), upstream_tests(), *bugs())
    except CoverageError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(page(*given), encoding="utf-8")
    lacking = problems(*given)
    for sentence in lacking:
        print(f"plumbline: {sentence}", file=sys.stderr)
    print(f"written: {PAGE.name}, {len(lacking)} problems")
    return int(bool(lacking))


if __name__ == "__main__":
    sys.exit(main())
