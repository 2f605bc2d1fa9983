/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect() of IPv4 sockets. */
#include "steer.h"

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return connect_hook(ctx, true);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
