# SPDX-License-Identifier: Apache-2.0
"""What `--services`, `--endpoints-per-service`, `--duration` and `--budget` may be, and where scale and load run.

Every refusal is a UsageError of one sentence.
"""

import argparse
import re
from collections.abc import Sequence

from clusters.errors import UsageError

SERVICES = (1, 1_000, 5_000, 10_000)
ENDPOINTS = 2
DURATION = 0.3
"""Seconds in which the system under test is measured for one cell, all repeats together."""
MOST_SERVICES = 100_000
# With more than so many, kube-proxy's modes need minutes for what is measured in seconds.
MOST_FOR_OTHERS = 50_000
MOST_ENDPOINTS = 1_000
APART = 4


def names_scale(expression: str | None) -> bool:
    """Whether -m asks for scale."""
    return _names("scale", expression)


def names_figures(expression: str | None) -> bool:
    """Whether -m asks for what leaves scale.json: scale or load."""
    return names_scale(expression) or _names("load", expression)


def _names(mark: str, expression: str | None) -> bool:
    left = re.sub(rf"\bnot\s+{mark}\b", "", expression or "")
    return re.search(rf"\b{mark}\b", left) is not None


def services(text: str | None, proxy: str) -> tuple[int, ...]:
    """Numbers of Services, fewest first. Raises UsageError."""
    if text is None:
        return SERVICES
    numbers = [int(word) if word.isascii() and word.isdecimal() else 0 for word in text.split(",")]
    if not all(0 < number <= MOST_SERVICES for number in numbers):
        raise UsageError(
            f"--services={text} must be numbers from 1 to {MOST_SERVICES:,} with commas between, such as 1,1000,10000"
        )
    if numbers != sorted(set(numbers)):
        raise UsageError(f"--services={text} must have each number once, the fewest first: Services are only added")
    if numbers[-1] > MOST_FOR_OTHERS and proxy not in ("ebpf", "command", "none"):
        raise UsageError(
            f"--services={text}: more than {MOST_FOR_OTHERS:,} are for the reference datapath (--proxy-mode=ebpf); "
            f"{proxy} would need hours"
        )
    return tuple(numbers)


def endpoints(text: str | None) -> int:
    """Endpoints of each Service. Raises UsageError."""
    if text is None:
        return ENDPOINTS
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 0 < number <= MOST_ENDPOINTS:
        raise UsageError(f"--endpoints-per-service={text} must be a number from 1 to {MOST_ENDPOINTS:,}")
    return number


def where(ladder: Sequence[int], at: str) -> tuple[int, ...]:
    """At which of the numbers of Services a test measures: each, the ends, the fewest or the most.

    Or those "apart": the fewest, the most, and between them what is APART times less than the next.
    """
    apart = {ladder[0], ladder[-1]}
    for number in reversed(ladder):
        if number * APART <= min(apart - {ladder[0]}, default=0):
            apart.add(number)
    places = {
        "each": ladder,
        "apart": apart,
        "ends": {ladder[0], ladder[-1]},
        "fewest": ladder[:1],
        "most": ladder[-1:],
    }
    return tuple(sorted(places[at]))


def refuse(options: argparse.Namespace) -> None:
    """Raise UsageError where -m asks for scale or load and the other options forbid it."""
    several = getattr(options, "numprocesses", None) or getattr(options, "dist", "no") != "no"
    if not names_scale(options.markexpr):
        if several and _names("load", options.markexpr):
            raise UsageError("load is put on one cluster at a time, or one slows another; leave out -n with -m load")
        return
    if several:
        raise UsageError("scale is measured by one process alone on the machine; leave out -n with -m scale")
    if options.cluster not in (None, "lab"):
        raise UsageError(
            f"scale is measured in the embedded lab; leave out --cluster={options.cluster} with -m scale"
        )


def refuse_user(expression: str | None, *, guest: bool, euid: int) -> None:
    """Raise UsageError where -m asks for scale of an ordinary user; in a guest's kernel everybody is root."""
    if names_scale(expression) and not guest and euid != 0:
        raise UsageError("scale is measured with real traffic from the lab's namespaces, which needs root: use sudo")
