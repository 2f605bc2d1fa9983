/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect() of IPv6 sockets, to IPv6 and v4-mapped addresses. */
#include "steer.h"

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return connect_hook(ctx, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
