/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting: every outcome has one counter in kmesh_stats. The add is atomic,
 * because a program may be preempted by another on its CPU: no outcome is lost.
 */
#ifndef KMESH_COUNT_H
#define KMESH_COUNT_H

#include "maps.h"

static __always_inline void count(__u32 outcome)
{
	__u64 *value = bpf_map_lookup_elem(&kmesh_stats, &outcome);

	if (value)
		__sync_fetch_and_add(value, 1);
}

#endif /* KMESH_COUNT_H */
