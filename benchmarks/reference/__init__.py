# SPDX-License-Identifier: Apache-2.0
"""The reference datapath measured, each number beside the limit of the same run."""
