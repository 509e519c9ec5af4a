# SPDX-License-Identifier: Apache-2.0
"""What is in a node's pinned maps, in words: `python -m dataplane_ref.show --pins /run/plumbline/bpf`.

It only reads, and needs no controller. Names and layouts are those of the object's types (dataplane_ref/bpf/types.h).
"""

import argparse
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dataplane_ref.controller import clock
from dataplane_ref.controller.packed import MAPPED, PROTOCOLS, text
from dataplane_ref.loader import BpfObject, LoadError, Map, syscalls

PINS = Path("/run/plumbline/bpf")
# Lines of one kind, after which it is only said how many more there are.
MOST = 1000
COLLECT = "plumbline_collect"
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
NODE_PORT = "NODE_PORT"
Fields = dict[str, Any]


class Shown:
    """The maps pinned in a folder, each part of which can be told line by line."""

    def __init__(self, pins: Path, now_ns: int | None = None) -> None:
        """Raises LoadError where there is nothing to be shown. `now_ns`: what the datapath's clock shows, unless it
        is to be asked.
        """
        self._object = BpfObject.open()
        self._maps = {name: self._pinned(pins, name) for name in self._object.definitions if (pins / name).exists()}
        missing = [name for name in ("config", "frontends", "endpoints") if name not in self._maps]
        if missing:
            raise LoadError(f"nothing of the datapath is pinned at {pins}: it has no {missing[0]}")
        self._now = self._clock(pins) if now_ns is None else now_ns

    def __enter__(self) -> "Shown":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._maps.values():
            one.close()

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """A title, and its lines."""
        yield "configuration", list(self._configuration())
        yield "frontends", _limited(self._frontends())
        yield "source ranges", _limited(self._source_ranges())
        yield "pods are known by", _limited(self._pod_ranges())
        yield "addresses", _limited(self._addresses())
        yield "interfaces", _limited(self._devices())
        yield "flows", _limited(self._flows())
        yield "affinities", _limited(self._affinities())
        yield "counters", list(self._counters())

    def _clock(self, pins: Path) -> int:
        sizes = {name: one.max_entries for name, one in self._maps.items()}
        with self._object.load(sizes, pins=pins, programs=[COLLECT]) as loaded:
            return clock.now(loaded.programs[COLLECT])

    def _pinned(self, pins: Path, name: str) -> Map:
        definition = self._object.definitions[name]
        try:
            fd = syscalls.pinned(str(pins / name))
            if fd is None:
                raise LoadError(f"{pins / name} is gone")
            kind, _, key, value, entries, flags = struct.unpack("=6I", syscalls.object_info(fd, 24))
        except OSError as error:
            raise LoadError(f"{pins / name} cannot be read: {error.strerror}") from None
        if (kind, key, value) != (definition.type, definition.key_size, definition.value_size):
            raise LoadError(f"{pins / name} is of another version of the datapath than this one")
        return Map(fd, definition._replace(max_entries=entries, flags=flags))

    def _configuration(self) -> Iterator[str]:
        config = self._value("config", "config", 0)
        names = [address(config[name]) for name in ("node_ipv4", "node_ipv6") if any(packed(config[name]))]
        yield f"node: {', '.join(names) or 'no address'}"
        yield f"flags: {self._words('config_flag', config['flags'])}"
        yield f"masquerading from ports {config['masquerade_first']} to {config['masquerade_last']}"
        yield f"epoch {config['epoch']}, mark {config['mark']:#x}"

    def _frontends(self) -> Iterator[str]:
        kinds = self._names("frontend_kind")
        schedulers = self._names("scheduler")
        for key, value in self._sorted("frontends", "frontend_key", "frontend"):
            at = "any address" if kinds[value["kind"]] == NODE_PORT else address(key["address"])
            about = [kinds[value["kind"]], f"Service port {value['service_port']}", schedulers[value["scheduler"]]]
            about += [self._words("frontend_flag", value["flags"])] if value["flags"] else []
            about += [f"affinity {value['affinity_seconds']} s"] if value["affinity_seconds"] else []
            about += [f"source ranges {value['source_ranges']}"] if value["source_ranges"] else []
            protocol = PROTOCOL_NAMES.get(key["protocol"], key["protocol"])
            yield f"{joined(at, key['port'])} {protocol} IPv{key['family']}: {', '.join(map(str, about))}"
            for name in ("cluster", "local"):
                yield f"    {name}: {', '.join(self._members(value[name])) or 'nobody'}"

    def _members(self, extent: Mapping[str, int]) -> Iterator[str]:
        numbers = [self._number("members", extent["first"] + place) for place in range(extent["count"])]
        for number in sorted(set(numbers)):
            times = f" × {numbers.count(number)}" if numbers.count(number) > 1 else ""
            yield f"{self._endpoint(number)}{times}"

    def _endpoint(self, number: int) -> str:
        if number >= self._maps["endpoints"].max_entries:
            return f"no endpoint ({number})"
        one = self._value("endpoints", "endpoint", number)
        extra = ""
        if one["flags"]:
            extra += f", {self._words('endpoint_flag', one['flags'])}"
        if one["weight"] > 1:
            extra += f", weight {one['weight']}"
        return f"{joined(address(one['address']), one['port'])} (#{number}{extra})"

    def _source_ranges(self) -> Iterator[str]:
        for key, _ in self._sorted("source_ranges", "range_key"):
            yield f"{key['set']}: {prefix(key['address'], key['prefix_length'] - 32)}"

    def _pod_ranges(self) -> Iterator[str]:
        for key, _ in self._sorted("pod_ranges", "pod_range_key"):
            yield prefix(key["address"], key["prefix_length"])

    def _addresses(self) -> Iterator[str]:
        for key, value in self._sorted("addresses", "address"):
            yield f"{address(key)}: {self._words('address_flag', value)}"

    def _devices(self) -> Iterator[str]:
        for key, value in sorted(self._maps["devices"].items()):
            yield f"{number_of(key)}: {self._words('device_flag', number_of(value))}"

    def _flows(self) -> Iterator[str]:
        for key, value in self._sorted("flows", "tuple", "flow"):
            protocol = PROTOCOL_NAMES.get(key["protocol"], key["protocol"])
            flags = self._words("flow_flag", value["flags"])
            yield f"{protocol} {ends(key)} becomes {ends(value)}: {flags}; {self._left(value['expires'])}"

    def _affinities(self) -> Iterator[str]:
        for key, value in self._sorted("affinities", "affinity_key", "affinity"):
            who = f"{address(key['client'])} with Service port {key['service_port']}"
            yield f"{who}: {self._endpoint(value['endpoint'])}; {self._left(value['expires'])}"

    def _counters(self) -> Iterator[str]:
        if "counters" not in self._maps:
            return
        for number, name in self._names("counter").items():
            if number < self._maps["counters"].max_entries:
                total = sum(number_of(one) for one in self._maps["counters"].per_cpu(number.to_bytes(4, "little")))
                if total:
                    yield f"{name}: {total}"

    # Reading.

    def _sorted(self, name: str, key: str, value: str | None = None) -> Iterator[tuple[Fields, Any]]:
        """The entries of a map in the order of their keys; a value without a layout is a number."""
        keys = self._object.layouts[key]
        values = self._object.layouts[value] if value else None
        for one, other in sorted(self._maps[name].items()) if name in self._maps else ():
            yield keys.unpack(one), values.unpack(other) if values else number_of(other)

    def _value(self, name: str, layout: str, number: int) -> Fields:
        found = self._maps[name].get(number.to_bytes(4, "little"))
        return self._object.layouts[layout].unpack(found or bytes(self._object.layouts[layout].size))

    def _number(self, name: str, number: int) -> int:
        return number_of(self._maps[name].get(number.to_bytes(4, "little")) or b"\xff" * 4)

    def _names(self, enum: str) -> dict[int, str]:
        return {number: name for name, number in self._object.enums[enum].items()}

    def _words(self, enum: str, flags: int) -> str:
        return ", ".join(name for name, bit in self._object.enums[enum].items() if bit & flags) or "none"

    def _left(self, expires: int) -> str:
        seconds = (expires - self._now) / 1e9
        return f"{seconds:.1f} s left" if seconds > 0 else f"past its time for {-seconds:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all there is; one sentence and status 1 where there is nothing to be read."""
    parser = argparse.ArgumentParser(prog="python -m dataplane_ref.show", description=__doc__)
    parser.add_argument("--pins", type=Path, default=PINS, help=f"where maps are pinned (default: {PINS})")
    options = parser.parse_args(arguments)
    try:
        with Shown(options.pins) as shown:
            for title, lines in shown.sections():
                print(f"{title}:")
                print("".join(f"  {line}\n" for line in lines or ["none"]), end="")
    except LoadError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 1
    except PermissionError:
        print(f"plumbline: {options.pins} may be read by root only: run the same command with sudo", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


def packed(value: Any) -> bytes:
    """A `struct address`, however deep it is unpacked, as its 16 bytes."""
    return value["words"] if isinstance(value, dict) else bytes(value)


def address(value: Any) -> str:
    """As people write it."""
    return text(packed(value))


def joined(ip: str, port: int) -> str:
    """An address and a port."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def ends(value: Fields) -> str:
    """Source and destination."""
    source, destination = (joined(address(value[end]), value[f"{end}_port"]) for end in ("source", "destination"))
    return f"{source} → {destination}"


def prefix(value: Any, bits: int) -> str:
    """A range as people write it."""
    is_ipv4 = packed(value)[:12] == MAPPED and bits >= 96
    return f"{address(value)}/{bits - 96 if is_ipv4 else bits}"


def number_of(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _limited(lines: Iterable[str]) -> list[str]:
    every = iter(lines)
    shown = list(islice(every, MOST))
    more = sum(1 for _ in every)
    return [*shown, *([f"… and {more} more lines"] if more else [])]


if __name__ == "__main__":
    sys.exit(main())
