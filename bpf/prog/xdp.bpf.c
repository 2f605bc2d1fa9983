/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What arrives at a pod's interfaces, while connections of it are to end (--revoke=xdp). */
#include "revoke.h"

SEC("xdp.frags")
int xdp(struct xdp_md *ctx)
{
	revoke(ctx);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
