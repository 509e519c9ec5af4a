# SPDX-License-Identifier: Apache-2.0
"""Tests of the reference datapath: its loader, its controller, its oracle and what it does to packets."""
