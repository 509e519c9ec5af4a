# SPDX-License-Identifier: Apache-2.0
"""What clients may rely on, asked of the embedded server and of a real kube-apiserver alike."""
