# SPDX-License-Identifier: Apache-2.0
"""Where requirements come from."""

DOCS = "https://kubernetes.io/docs/reference/networking/"
CONCEPTS = "https://kubernetes.io/docs/concepts/services-networking/"
SERVICE = CONCEPTS + "service/"
SLICES = CONCEPTS + "endpoint-slices/"
VIRTUAL_IPS = DOCS + "virtual-ips/"
SOURCE_IP = "https://kubernetes.io/docs/tutorials/services/source-ip/"
LABELS = "https://kubernetes.io/docs/reference/labels-annotations-taints/"
PROXY_CONFIG = "https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/"
