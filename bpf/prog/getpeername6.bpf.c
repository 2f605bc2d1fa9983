/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* getpeername() of IPv6 sockets answers the address that was dialled, where
 * connect noted it for that (setting KMESH_SET_PEERNAME). */
#include "peername.h"

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	const struct kmesh_dst *dst = dialled_by(ctx);

	if (!dst)
		return 1;
	ctx->user_ip6[0] = dst->addr[0];
	ctx->user_ip6[1] = dst->addr[1];
	ctx->user_ip6[2] = dst->addr[2];
	ctx->user_ip6[3] = dst->addr[3];
	ctx->user_port = dst->port;
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
