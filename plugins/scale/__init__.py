# SPDX-License-Identifier: Apache-2.0
"""Scale: what is measured as Services grow, the limit beside it, and what people look at."""
