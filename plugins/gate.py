# SPDX-License-Identifier: Apache-2.0
"""--baseline: this run beside an earlier one, whose file says by itself which kind it is.

`scale.json`: ratios got worse, or not (plugins/scale/baseline.py). `requirements.jsonl`: requirements regressed, or
not (plugins/baseline.py); then what failed before and still fails is no reason for an exit status.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusters.errors import UsageError
from plugins import baseline
from plugins.options import Settings, asked_for
from plugins.scale import baseline as ratios
from plugins.scale.cells import Scale, load
from plugins.scale.settings import names_figures
from plugins.session import SETTINGS, SHOW_ONLY

NAME = "scale.json"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a comparison means for the run: its lines, and whether it regressed.

    `overlooks`: failures are the baseline's business alone, so those that are no regression do not fail the run.
    """

    lines: tuple[str, ...]
    regressed: bool
    overlooks: bool


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the file before this run writes over it. Raises pytest.UsageError."""
    option = config.option
    if option.baseline is None or hasattr(config, "workerinput") or not asked_for(option):
        return
    if any(getattr(option, name, False) for name in SHOW_ONLY):
        return
    try:
        config.pluginmanager.register(Gate(config, read(Path(option.baseline))))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def read(path: Path) -> Scale | tuple[Mapping[str, Any], ...]:
    """What an earlier run left: the cells of scale.json, or the records of requirements.jsonl. Raises UsageError."""
    try:
        whole = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--baseline={path} cannot be read: {error.strerror}") from None
    except ValueError:
        return baseline.read(path)
    is_scale = isinstance(whole, dict) and "outcome" not in whole
    return ratios.read(path) if is_scale else baseline.read(path)


class Gate:
    """Holds what was, until what is has been written."""

    def __init__(self, config: pytest.Config, before: Scale | Sequence[Mapping[str, Any]]) -> None:
        self._config = config
        self._before = before
        if isinstance(before, Scale) and not names_figures(config.option.markexpr):
            raise UsageError(
                f"--baseline={config.option.baseline} is of a scale run; add -m scale or -m load, which makes one"
            )

    def pytest_sessionstart(self) -> None:
        """Refuse what could not be compared before anything is measured. Raises pytest.UsageError."""
        settings = self._config.stash.get(SETTINGS, None)
        if settings is None or not isinstance(self._before, Scale):
            return
        try:
            ratios.check_kernels(settings.guest is not None, self._before)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        # What an earlier run left there would be judged if this one came to nothing.
        (Path(settings.report) / NAME).unlink(missing_ok=True)

    def pytest_plumbline_baseline(self, settings: Settings, records: Sequence[Mapping[str, Any]]) -> Judgement:
        if not isinstance(self._before, Scale):
            comparison = baseline.compare(records, self._before)
            return Judgement(tuple(comparison.lines()), bool(comparison.regressions), overlooks=True)
        path = Path(settings.report) / NAME
        if not path.exists():
            return Judgement(("baseline: nothing was measured, so nothing is compared",), False, overlooks=False)
        verdicts = ratios.judge(load(path.read_bytes()), self._before)
        return Judgement(tuple(verdicts.lines()), bool(verdicts.regressions), overlooks=False)
