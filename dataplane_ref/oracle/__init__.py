# SPDX-License-Identifier: Apache-2.0
"""The oracle: the reference datapath's own decisions, asked for without a cluster.

Read in this order: `answer` (what it is asked and answers), `packets` (a flow's first packet), `state` (a cluster's
state on its way into the maps), `view` (one node), `oracle` (all of it together).
"""
