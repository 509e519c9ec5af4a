# SPDX-License-Identifier: Apache-2.0
"""The controller of the reference datapath: it watches the API, and writes what the datapath's maps shall hold."""
