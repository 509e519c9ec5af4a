# SPDX-License-Identifier: Apache-2.0
"""The hermetic kernel: User-Mode Linux with this machine's file system, for what this machine's kernel cannot do."""
