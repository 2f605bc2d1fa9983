/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events of TCP sockets: when a socket connects (again), when a connection to a
 * waypoint stands, and when its metadata has been acknowledged. Connections that the host
 * itself opens are noted, and those that come in to pods with policies. Everything else
 * returns at once. */
#include "dialled.h"
#include "live.h"
#include "waypoint.h"

SEC("sockops/cgroup")
int sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		note_dial(ctx);
		syn_sent(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		note_live(ctx);
		/* a simultaneous open ends here, too */
		hold_first_send(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		hold_first_send(ctx);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		release_socket(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		finish_sending(ctx);
		forget_live(ctx);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
