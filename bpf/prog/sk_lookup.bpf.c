/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The look-up of a listening socket in a pod's network namespace. */
#include "authz.h"

SEC("sk_lookup/pod")
int sk_lookup(struct bpf_sk_lookup *ctx)
{
	return authorize(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
