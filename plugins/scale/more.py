# SPDX-License-Identifier: Apache-2.0
"""Endpoints and Services beside those that `Bench.at` makes, for as long as a block lasts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from clusters.measure import services as named
from plugins.scale.bench import Bench
from plugins.world import UnfitError


def endpoints(bench: Bench, first: int, count: int) -> list[str]:
    """So many addresses of the node's endpoints, by their numbers from `first`. Raises ValueError past the last."""
    plan = bench.lab.plan.dense(bench.node.name)
    return [plan.addresses(number)[0] for number in range(first, first + count)]


def point(bench: Bench, wanted: Mapping[int, Sequence[str]]) -> None:
    """Give Services these endpoints and no others; it is not waited for."""
    bench.api.write_all(
        bench.api.patch(f"{named.SLICES}/{named.slice_name(number)}", named.new_endpoints(addresses))
        for number, addresses in wanted.items()
    )


@contextmanager
def pointed(bench: Bench, wanted: Mapping[int, Sequence[str]]) -> Iterator[None]:
    """In the block these Services have other endpoints, in force; after it their own again."""
    try:
        point(bench, wanted)
        bench.settle()
        yield
    finally:
        point(bench, {number: bench.shape.endpoints(number) for number in wanted})
        bench.settle()


@contextmanager
def added(
    bench: Bench, wanted: Sequence[Sequence[str]], annotations: Mapping[str, str] | None = None
) -> Iterator[range]:
    """In the block there are more Services, in force, each with these endpoints; their numbers.

    Raises UnfitError where there are no addresses for them.
    """
    numbers = range(bench.services, bench.services + len(wanted))
    if named.needs_more(numbers.stop) and not named.needs_more(bench.services):
        raise UnfitError(f"the range of ClusterIPs has no room for {len(wanted)} Services more")
    api = bench.api
    try:
        for number, addresses in zip(numbers, wanted, strict=True):
            api.write_all(
                [
                    api.request("POST", named.SERVICES, bench.shape.service(number)),
                    api.request("POST", named.SLICES, bench.shape.slice(number, addresses)),
                ]
            )
            if annotations:
                patch = {"metadata": {"annotations": dict(annotations)}}
                api.write_all([api.patch(f"{named.SERVICES}/{named.name(number)}", patch)])
        bench.settle()
        yield numbers
    finally:
        for number in numbers:
            remove(bench, [f"{named.SERVICES}/{named.name(number)}", f"{named.SLICES}/{named.slice_name(number)}"])
        bench.settle()


def remove(bench: Bench, paths: Sequence[str]) -> None:
    """Delete objects."""
    bench.api.write_all(bench.api.request("DELETE", path) for path in paths)
