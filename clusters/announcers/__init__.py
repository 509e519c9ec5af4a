# SPDX-License-Identifier: Apache-2.0
"""What makes load balancers' addresses known on the nodes' LAN: one process per lab node, beside the proxy."""
