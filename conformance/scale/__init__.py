# SPDX-License-Identifier: Apache-2.0
"""Scale: what changes as Services grow (`-m scale`); docs/scale.md tells of each chart."""
