# SPDX-License-Identifier: Apache-2.0
"""Load: what applications see of a Service while it changes. locust is its client, in processes of its own."""
