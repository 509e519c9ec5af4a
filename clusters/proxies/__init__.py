# SPDX-License-Identifier: Apache-2.0
"""The proxies that can be put on a lab's nodes."""
