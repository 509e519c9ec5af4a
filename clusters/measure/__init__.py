# SPDX-License-Identifier: Apache-2.0
"""Measuring: a client and a server in C, the limit beside what is measured, and thousands of Services in the API."""
