# SPDX-License-Identifier: Apache-2.0
"""The text of a failure: always the same five lines, then where its attachments are."""

from collections.abc import Mapping
from pathlib import Path

from plugins.record import Record
from plugins.requirements import Requirement

LABEL_WIDTH = 12


def five_lines(
    requirement: Requirement, record: Record, what: str, reproduce: str, system: str, looks_like: str | None = None
) -> str:
    """Requirement, expected, observed, where, reproduce; then what more there is to say."""
    lines = (
        (
            "requirement",
            f"{requirement.id} ({requirement.level}, since {requirement.since}): {requirement.sentence}",
        ),
        ("expected", record.expected or "(nothing was asked of the model before it failed)"),
        ("observed", f"{what.removeprefix('observed ')}{f' [{record.observed}]' if record.observed else ''}"),
        ("where", f"{record.where or 'before the first probe'}; {system}"),
        ("reproduce", reproduce),
    )
    text = "\n".join(f"{label:<{LABEL_WIDTH}} {_one_line(value)}" for label, value in lines)
    if record.reason:
        text += f"\n{'note':<{LABEL_WIDTH}} {_one_line(record.reason)}"
    if looks_like:
        text += f"\n{'looks like':<{LABEL_WIDTH}} {_one_line(looks_like)}"
    if record.artefacts:
        text += (
            f"\n{'attached':<{LABEL_WIDTH}} {record.artefacts[0].rpartition('/')[0]}/ ({len(record.artefacts)} files)"
        )
    return text


def save_artefacts(directory: Path, name: str, files: Mapping[str, str | bytes]) -> list[str]:
    """Write each text or binary to a file of that name; returns their paths."""
    folder = directory / "artefacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for title, content in files.items():
        file = folder / title.replace(" ", "-").replace("/", "_")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        saved.append(str(file))
    return saved


def _one_line(text: str) -> str:
    return "; ".join(" ".join(line.split()) for line in text.strip().splitlines())
