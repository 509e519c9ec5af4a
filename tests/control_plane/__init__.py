# SPDX-License-Identifier: Apache-2.0
"""The embedded API server beside the real one: where they differ, and why that may be."""
