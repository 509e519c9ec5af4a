# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.soak.kills --runs 30`: SIGKILL something at a random moment, and look for what stays behind.

Each run is a pytest session in a process of its own. After a while, which may be before its lab is up, one of its
processes is killed: pytest itself, xdist's controller or a worker, the supervisor, its watchdog, an agent, the API
server, or a proxy. Within two seconds of the session's end nothing of it may be left: no process, no interface, no
route, no rule, no mount, no temporary file.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.lab.test_lab import host_state
from tests.lab.test_leaks import GONE_WITHIN, Session, session

# From the first imports to well into the tests.
LONGEST_WAIT = 9.0
# Tests for longer than that, and no longer than needed: xdist replaces a worker and goes on.
TESTS = "conformance/clusterip"
# A session that noticed the loss of a part ends in order; on a busy machine that takes a while.
SESSION_ENDS_WITHIN = 180.0
KINDS = {
    "a proxy": r"kube-proxy.*--config",
    "an agent": r"clusters\.agent",
    "the API server": r"clusters\.apiserver",
    "the supervisor or its watchdog": r"clusters\.lab\.supervisor",
    "an xdist worker": r"exec\(eval\(sys\.stdin",
    "pytest": r"-m pytest",
}


def main() -> int:
    """1 if anything stayed behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30, metavar="N")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), metavar="N")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"{options.runs} runs, --seed {options.seed}", flush=True)
    victims: Counter[str] = Counter()
    for run in range(1, options.runs + 1):
        moment, mode = chance.uniform(0.0, LONGEST_WAIT), chance.choice(["iptables", "nftables"])
        arguments = ["-n", "2"] if chance.random() < 0.3 else []
        with tempfile.TemporaryDirectory(prefix="plumbline-kills-") as directory:
            before = host_state()
            with session(Path(directory), TESTS, f"--proxy-mode={mode}", *arguments) as running:
                time.sleep(moment)
                victim = kill_something(running, chance)
                left = what_is_left(running, victim)
            after = host_state()
        victims[victim] += 1
        changed = [one for one in after if one not in before]
        print(
            f"{run:3}  {moment:4.1f} s  {mode} {' '.join(arguments):5} {victim}: {left or 'nothing left'}", flush=True
        )
        if left or changed:
            print(f"left behind: {left} {changed}", file=sys.stderr)
            return 1
    print(f"{options.runs} runs, nothing left behind; killed: {', '.join(f'{n} × {v}' for v, n in victims.items())}")
    return 0


def kill_something(running: Session, chance: random.Random) -> str:
    """SIGKILL one process of the session; what it was."""
    found: dict[str, list[int]] = {}
    for pid, command in running.processes().items():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, command)), None)
        if kind:
            found.setdefault(kind, []).append(pid)
    if not found:
        return "nothing, it had ended"
    kind = chance.choice(sorted(found))
    pid = chance.choice(found[kind])
    os.kill(pid, signal.SIGKILL)
    return kind


def what_is_left(running: Session, victim: str) -> dict[int, str]:
    """What there is of the session two seconds after its end; of its labs, two seconds after pytest was killed."""
    if victim == "pytest":
        if left := outlasts(running, GONE_WITHIN, r"kube-proxy|clusters\."):
            return left
        outlasts(running, SESSION_ENDS_WITHIN)  # xdist's workers take their time, with or without a controller
    else:
        try:
            running.process.communicate(timeout=SESSION_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            return running.processes()
    # pytest keeps its own base directory for xdist's workers, and reuses it.
    files = [str(file) for file in running.temporary.iterdir() if not file.name.startswith("pytest-of-")]
    return outlasts(running, GONE_WITHIN) or dict(enumerate(files))


def outlasts(running: Session, seconds: float, pattern: str = "") -> dict[int, str]:
    """The session's processes that are still there after so many seconds; returns at once when there are none."""
    end = time.monotonic() + seconds
    while (left := running.processes(pattern)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


if __name__ == "__main__":
    sys.exit(main())
