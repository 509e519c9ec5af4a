# SPDX-License-Identifier: Apache-2.0
"""The errors a user can meet, each carrying one sentence meant to be read.

No traceback is ever shown for these: the plugin prints the sentence and chooses the exit status.
"""


class PlumblineError(Exception):
    """plumbline could not do its work; the sentence says what happened (pytest exit status 3)."""


class UsageError(PlumblineError):
    """The user asked for something impossible or absent; the sentence says what to type instead (exit status 4)."""


class ProxyError(PlumblineError):
    """The proxy under test died or never became ready; the sentence ends with its last log lines (exit status 3)."""
