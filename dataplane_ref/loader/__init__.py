# SPDX-License-Identifier: Apache-2.0
"""Loads BPF objects with bpf(2) alone: no libbpf, no module that Python does not bring.

    with BpfObject.open().load(sizes={"flows": 262144}) as loaded:
        link = loaded.programs["plumbline_ingress"].attach_tc(ifindex, "ingress")

`elf` and `btf` read the object, `layout` the structures in it, `link` makes programs of its sections, `object` puts
maps and programs into the kernel; `maps`, `programs` and `links` are what is there then.
"""

from dataplane_ref.loader.errors import LoadError, MapFullError, PinnedLayoutError
from dataplane_ref.loader.layout import Field, Layout
from dataplane_ref.loader.links import ClsactLink, Link, NoTcxError
from dataplane_ref.loader.maps import Map, possible_cpus
from dataplane_ref.loader.object import OBJECT, BpfObject, Loaded, layouts
from dataplane_ref.loader.programs import Program, RunResult

__all__ = [
    "OBJECT",
    "BpfObject",
    "ClsactLink",
    "Field",
    "Layout",
    "Link",
    "LoadError",
    "Loaded",
    "Map",
    "MapFullError",
    "NoTcxError",
    "PinnedLayoutError",
    "Program",
    "RunResult",
    "layouts",
    "possible_cpus",
]
