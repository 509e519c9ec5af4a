# SPDX-License-Identifier: Apache-2.0
"""A person looks inside: `--keep-lab` and `--lab-shell`."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode
from pathlib import Path
from ssl import create_default_context

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(report: Path, *arguments: str) -> list[str]:
    plain = ("-p", "no:cacheprovider", "--proxy-mode=iptables", "--family=ipv4", f"--report={report}")
    return [sys.executable, "-m", "pytest", *plain, *arguments]


@pytest.mark.parametrize("selected", ["hairpin and first", "no_such_test"])
def test_a_shell_on_a_node_follows_the_tests(selected: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--lab-shell=node-b", "-k", selected),
        cwd=ROOT,
        input="echo user $(id -u); ip -o address show eth0; iptables-save -t nat | grep -c KUBE-SERVICES; exit 7",
        capture_output=True,
        text=True,
        check=False,
        timeout=60.0,
    )
    assert done.returncode == (0 if "first" in selected else 5), done.stdout
    _, _, shown = done.stdout.partition("a shell on node-b; the lab ends with it\n")
    lines = shown.splitlines()
    assert lines[0] == "user 0"
    assert "inet 172.18.0.11/16" in lines[1]
    assert int(lines[-1]) > 1
    assert not (tmp_path / "lab").exists()


def test_a_kept_lab_can_be_looked_into_until_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path, "--keep-lab", "-k", "hairpin and first"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or "node-c " not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            doors = tmp_path / "lab"
            assert any("--kubeconfig=" in line for line in lines)
            assert "Service" in kinds_of_the_services(doors / "kubeconfig")
            door = subprocess.run([doors / "node-a", "ip", "-o", "link"], capture_output=True, text=True, check=True)
            assert "pod-1@" in door.stdout
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20.0) == 0
            assert not doors.exists()
        finally:
            process.kill()


def kinds_of_the_services(kubeconfig: Path) -> str:
    """The Services of the test that ran last, as a client with the kubeconfig sees them."""
    assert kubeconfig.stat().st_mode & 0o077 == 0
    config = json.loads(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    assert cluster["server"].startswith("https://127.0.0.1:")
    request = urllib.request.Request(  # noqa: S310 - the scheme was just looked at
        f"{cluster['server']}/api/v1/namespaces/default/services",
        headers={"Authorization": f"Bearer {user['token']}"},
    )
    context = create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    with urllib.request.urlopen(request, context=context, timeout=10.0) as answer:  # noqa: S310
        found = json.load(answer)
    assert found["items"], "the batch was cleaned up although somebody wants to look at it"
    return str(found["kind"])
