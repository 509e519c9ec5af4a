# SPDX-License-Identifier: Apache-2.0
"""What plumbline itself costs, measured: `make bench`."""
