/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A compiler describes in BTF only the types that a variable, a map or a function has, and constants have no type there.
 * So that Python can read the enums of types.h too, each is the type of a member here. The section is never loaded.
 */
#ifndef PLUMBLINE_ENUMS_H
#define PLUMBLINE_ENUMS_H

#include "kernel.h"
#include "types.h"

struct enums {
	enum frontend_kind frontend_kind;
	enum frontend_flag frontend_flag;
	enum scheduler scheduler;
	enum endpoint_flag endpoint_flag;
	enum address_flag address_flag;
	enum device_flag device_flag;
	enum config_flag config_flag;
	enum flow_flag flow_flag;
	enum outcome outcome;
	enum source_rule source_rule;
	enum egress egress;
	enum counter counter;
};
const struct enums enums SEC(".enums") = { 0 };

#endif
