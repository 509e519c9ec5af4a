# SPDX-License-Identifier: Apache-2.0
"""A real guest: what runs in it, what it can write, and that nothing of it is left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from clusters.hermetic.finding import Uml
from clusters.hermetic.guest import Guest, GuestError
from clusters.hermetic.watchdog import NAMESPACES

ROOT = Path(__file__).resolve().parents[2]


def run(guest: Guest, script: str) -> tuple[int, str]:
    said: list[bytes] = []
    guest.start(["sh", "-c", script])
    status = guest.pump(said.append)
    return status, b"".join(said).decode()


def test_a_command_and_its_exit_status(guest: Guest, uml: Uml) -> None:
    status, said = run(guest, "uname -r; id -u; exit 7")
    assert (status, said.split()) == (7, [uml.version, "0"])


def test_modules_load_on_demand(uml: Uml, guest: Guest) -> None:
    """By modprobe, by the kernel's own request, and not what does not exist."""
    assert guest.load(["nonsense"]) == ["nonsense"]
    status, _ = run(guest, "modprobe -q ip_vs && test -e /proc/net/ip_vs && ! modprobe nonsense")
    assert status == 0
    status, said = run(
        guest, "ip link add plumbline0 type vxlan id 1 dstport 8472 && { grep -c ^vxlan /proc/modules || true; }"
    )
    assert status == 0
    if "/vxlan.ko" not in (uml.modules / "modules.builtin").read_text():
        assert said.strip() == "1"


def test_the_machine_cannot_be_written(guest: Guest, tmp_path: Path) -> None:
    status, _ = run(guest, "touch /tmp/x /run/x /dev/shm/x && ! touch /usr/x 2>/dev/null")
    assert status == 0
    run(guest, f"touch {ROOT}/x")  # which a clone below /tmp allows: there a guest has memory of its own
    assert not (ROOT / "x").exists()
    guest.start(["sh", "-c", f"echo from within >{tmp_path}/said"], writable=[tmp_path])
    assert guest.pump(lambda _: None) == 0
    assert (tmp_path / "said").read_text() == "from within\n"


def test_legacy_iptables_in_both_families(guest: Guest) -> None:
    rule = "-t nat -A POSTROUTING -m statistic --mode random --probability 0.5 -j MASQUERADE --random-fully"
    status, said = run(guest, f"iptables --version && iptables {rule} && ip6tables {rule}")
    assert status == 0, said
    assert "legacy" in said


def test_a_panic_is_one_sentence(uml: Uml) -> None:
    with Guest(uml) as doomed:
        doomed.start(["sh", "-c", "echo c >/proc/sysrq-trigger"])
        with pytest.raises(
            GuestError, match=r"(?s)^the guest \(User-Mode Linux .*\) ended; its console .*Kernel panic"
        ):
            doomed.pump(lambda _: None)


SCRIPT = """
import sys, time
from pathlib import Path
from clusters.hermetic.finding import at
from clusters.hermetic.guest import Guest
guest = Guest(at(Path(sys.argv[1]), "flag", "it"))
guest.start(["sh", "-c", "sleep 1000 & sleep 1000"])
print(guest.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("namespaces", "killed"), [("yes", "pytest"), ("yes", "watchdog"), ("no", "pytest")], ids=lambda word: word
)
def test_nothing_outlives_a_sigkill(uml: Uml, tmp_path: Path, namespaces: str, killed: str) -> None:
    """Whichever way its processes are kept together. They are known by the path of a binary of their own."""
    binary = tmp_path / "bin" / "linux.uml"
    binary.parent.mkdir()
    shutil.copy(uml.binary, binary)
    (tmp_path / "lib" / "uml").mkdir(parents=True)
    (tmp_path / "lib" / "uml" / "modules").symlink_to(uml.modules.parent)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), NAMESPACES: namespaces}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, binary], env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        watchdog = int(process.stdout.readline())
        assert len(of(binary) - {process.pid}) > 1
        os.kill(process.pid if killed == "pytest" else watchdog, signal.SIGKILL)
        end = time.monotonic() + 20.0
        while of(binary) - {process.pid} and time.monotonic() < end:
            process.poll()
            time.sleep(0.1)
        assert of(binary) - {process.pid} == set()
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None


def of(binary: Path) -> set[int]:
    """The processes of this machine that have a binary's path among their arguments."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(binary).encode() in (place / "cmdline").read_bytes():
                found.add(int(place.name))
    return found
