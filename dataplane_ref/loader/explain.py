# SPDX-License-Identifier: Apache-2.0
"""Turns the kernel's refusals into one sentence: which map, program or helper, and which Linux has it."""

import os
import re

# enum bpf_map_type: what the datapath's kinds are called, and the first Linux that has them.
_MAP_TYPES = {
    1: ("HASH", "3.19"), 2: ("ARRAY", "3.19"), 5: ("PERCPU_HASH", "4.6"), 6: ("PERCPU_ARRAY", "4.6"),
    9: ("LRU_HASH", "4.10"), 10: ("LRU_PERCPU_HASH", "4.10"), 11: ("LPM_TRIE", "4.11"), 22: ("QUEUE", "4.20"),
    23: ("STACK", "4.20"), 27: ("RINGBUF", "5.8"), 30: ("BLOOM_FILTER", "5.16"),
}  # fmt: skip
# enum bpf_prog_type, likewise.
_PROGRAM_TYPES = {3: ("tc", "4.1"), 6: ("XDP", "4.8"), 31: ("syscall", "5.14")}
# enum bpf_func_id: the helpers that bpf/kernel.h declares and some neighbours, with the release that brought them to
# tc and XDP (https://docs.ebpf.io/linux/helper-function/, man 7 bpf-helpers).
_HELPERS = {
    1: ("map_lookup_elem", "3.19"), 2: ("map_update_elem", "3.19"), 3: ("map_delete_elem", "3.19"),
    5: ("ktime_get_ns", "4.1"), 7: ("get_prandom_u32", "4.1"), 9: ("skb_store_bytes", "4.1"),
    10: ("l3_csum_replace", "4.1"), 11: ("l4_csum_replace", "4.1"), 23: ("redirect", "4.4"),
    26: ("skb_load_bytes", "4.5"), 28: ("csum_diff", "4.6"), 38: ("skb_change_tail", "4.9"),
    39: ("skb_pull_data", "4.9"), 44: ("xdp_adjust_head", "4.10"), 50: ("skb_adjust_room", "4.13"),
    65: ("xdp_adjust_tail", "4.18"), 69: ("fib_lookup", "4.18"), 100: ("csum_level", "5.8"),
    125: ("ktime_get_boot_ns", "5.8"), 152: ("redirect_neigh", "5.10"), 155: ("redirect_peer", "5.10"),
    163: ("check_mtu", "5.12"), 181: ("loop", "5.17"), 189: ("xdp_load_bytes", "5.18"),
    190: ("xdp_store_bytes", "5.18"),
}  # fmt: skip
_UNKNOWN = re.compile(r"(?:unknown func|invalid func|program of this type cannot use helper) \S*#(\d+)")
# What the verifier says after the reason: figures, and where the reason is followed by its own context.
_FIGURES = re.compile(r"^(processed \d+ insns|verification time|stack depth|peak_states|insns processed|$)")


def release() -> str:
    """This kernel's version, as `uname -r` says it."""
    return os.uname().release


def map_type(number: int) -> str:
    name, _ = _MAP_TYPES.get(number, (f"of type {number}", ""))
    return name


def no_map_type(number: int) -> str:
    """That the kernel does not know a type of map."""
    name, since = _MAP_TYPES.get(number, (f"number {number}", ""))
    return f"this kernel ({release()}) lacks the map type {name}{_needs(since)}"


def no_program_type(number: int, name: str) -> str:
    """That the kernel does not know a type of program."""
    kind, since = _PROGRAM_TYPES.get(number, (f"type {number}", ""))
    return f"this kernel ({release()}) lacks {kind} programs, such as {name}{_needs(since)}"


def refused(program: str, log: str) -> str:
    """Why the verifier did not take a program: the telling line of its log, and the line of C it was at."""
    unknown = _UNKNOWN.search(log)
    if unknown:
        name, since = _HELPERS.get(int(unknown[1]), (f"number {unknown[1]}", ""))
        return f"this kernel ({release()}) lacks the helper {name}, which program {program} calls{_needs(since)}"
    lines = [line.strip() for line in log.splitlines()]
    reason = next((line for line in reversed(lines) if not _FIGURES.match(line)), "it gives no reason")
    source = next((line.lstrip("; ") for line in reversed(lines) if line.startswith("; ")), "")
    at = f" (at: {source})" if source else ""
    return f"the kernel's verifier refuses program {program}: {reason.rstrip('.')}{at}"


def _needs(since: str) -> str:
    return f": it needs Linux {since}" if since else ""
