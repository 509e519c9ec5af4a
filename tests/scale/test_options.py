# SPDX-License-Identifier: Apache-2.0
"""What is asked of a scale run, and where it is refused; bad values stand in tests/plugin/test_options.py."""

import argparse
from collections.abc import Sequence

import pytest

from clusters.errors import UsageError
from plugins.options import Settings
from plugins.scale import settings as scale
from plugins.session import SETTINGS
from tests.plugin.test_options import COMMAND, configured

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("arguments", "services", "endpoints", "duration", "budget"),
    [
        ([], (1, 1_000, 5_000, 10_000), 2, None, None),
        (["--services=1"], (1,), 2, None, None),
        (["--services=1,20,50000", "--endpoints-per-service=10"], (1, 20, 50_000), 10, None, None),
        (["--duration=500ms", "--budget=10m"], (1, 1_000, 5_000, 10_000), 2, 0.5, 600.0),
    ],
)
def test_scale_is_measured_as_asked(
    arguments: Sequence[str],
    services: tuple[int, ...],
    endpoints: int,
    duration: float | None,
    budget: float | None,
    pytester: pytest.Pytester,
) -> None:
    settings = configured(pytester, *COMMAND, *arguments).stash[SETTINGS]
    assert (settings.services, settings.endpoints_per_service) == (services, endpoints)
    assert (settings.duration, settings.budget) == (duration, budget)
    assert Settings.loads(settings.dumps()) == settings


@pytest.mark.parametrize("arguments", [["--proxy-mode=ebpf"], list(COMMAND), ["--proxy=none"]])
def test_a_hundred_thousand_services_are_for_whoever_may_do_it(
    arguments: Sequence[str], pytester: pytest.Pytester
) -> None:
    settings = configured(pytester, *arguments, "--services=1,100000").stash[SETTINGS]
    assert settings.services == (1, 100_000)


def asked(expression: str, **options: object) -> argparse.Namespace:
    return argparse.Namespace(**{"markexpr": expression, "cluster": None, "numprocesses": None, **options})


@pytest.mark.parametrize("expression", ["scale", "scale or load", "not load and scale"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"numprocesses": 2}, "scale is measured by one process alone on the machine; leave out -n"),
        ({"dist": "each"}, "scale is measured by one process alone on the machine; leave out -n"),
        ({"cluster": "kind"}, "scale is measured in the embedded lab; leave out --cluster=kind"),
    ],
)
def test_scale_is_refused_where_it_cannot_be_measured(
    expression: str, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        scale.refuse(asked(expression, **options))
    assert str(caught.value).startswith(sentence)
    scale.refuse(asked(expression))


@pytest.mark.parametrize("options", [{"numprocesses": 2}, {"dist": "each"}])
def test_load_is_for_one_process(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="load is put on one cluster at a time, or one slows another; leave out -n"):
        scale.refuse(asked("load", **options))
    scale.refuse(asked("load", cluster="kind"))


def test_scale_needs_root_but_in_a_guest() -> None:
    with pytest.raises(UsageError, match="from the lab's namespaces, which needs root: use sudo"):
        scale.refuse_user("scale", guest=False, euid=1000)
    scale.refuse_user("scale", guest=True, euid=1000)
    scale.refuse_user("scale", guest=False, euid=0)
    scale.refuse_user("load", guest=False, euid=1000)


@pytest.mark.parametrize("expression", ["", "not scale", "not load and not scale", "scaled", "upscale", "payload"])
def test_what_is_no_scale_needs_nothing(expression: str) -> None:
    scale.refuse(asked(expression, numprocesses=4, cluster="kind"))
