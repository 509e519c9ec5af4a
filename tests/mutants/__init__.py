# SPDX-License-Identifier: Apache-2.0
"""Mutants: the reference datapath with one line made wrong, each of which some requirement has to notice."""
