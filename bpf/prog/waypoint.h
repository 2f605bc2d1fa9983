/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections to a waypoint: from connect() to the first send that has carried
 * the original destination.
 *
 *   connect     guard_waypoint: refuse what would send before we can (Fast Open)
 *               or cannot be hooked (MPTCP); remember the original destination
 *   SYN         syn_sent: nothing of a former use of the socket holds
 *   established hold_first_send: the socket joins map_of_kmesh_socket, so that
 *               sk_msg sees its first send; what cannot join is cut
 *   first send  metadata.h
 *   RTT sample  release_socket: the metadata is acknowledged, the socket leaves
 *               the map (staying costs a quarter of the throughput)
 *
 * A socket that closes first leaves the map by itself: the kernel sees to that.
 * It refuses to let one byte reach a waypoint before the metadata.
 */
#ifndef KMESH_WAYPOINT_H
#define KMESH_WAYPOINT_H

#include <linux/tcp.h>
#include <asm/socket.h>

#include "count.h"
#include "kernel.h"
#include "lookup.h"

#define SOL_TCP 6
/* No interface has this index: the kernel finds no route for the socket. */
#define KMESH_NOWHERE 0x7ffffff0
#define KMESH_ABORT_MS 100
/* What sockops is told of a socket in map_of_kmesh_socket. */
#define KMESH_WATCHED (BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG)

/* Notes what the application dialled, and where that is sent. False when there is
 * no memory for it. */
static __always_inline bool remember(struct bpf_sock_addr *ctx,
				     const struct kmesh_frontend_key *dialled,
				     const struct target *target, __u16 state)
{
	struct kmesh_dst *dst;

	dst = bpf_sk_storage_get(&map_of_dst_info, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!dst)
		return false;
	__builtin_memcpy(dst->addr, dialled->addr, sizeof(dst->addr));
	dst->port = dialled->port;
	dst->seq = 0;
	dst->target = target->addr[3];
	dst->target_port = target->port;
	/* only sockops can take the socket out of the map, where it may be from before */
	dst->state = (dst->state & KMESH_DST_IN_MAP) | state | KMESH_DST_DIALLED;
	return true;
}

/* KMESH_C_WAYPOINT when the socket's first send can be made to carry metadata. */
static __always_inline __u32 guard_waypoint(struct bpf_sock_addr *ctx)
{
	struct tcp_sock *tp;

	/* the sockhash takes no MPTCP subflow */
	if (bpf_skc_to_mptcp_sock(ctx->sk))
		return KMESH_C_REFUSED_MPTCP;
	tp = bpf_skc_to_tcp_sock(ctx->sk);
	/* not a socket that we could follow */
	if (!tp)
		return KMESH_C_REFUSED_MPTCP;
	/* sendto(MSG_FASTOPEN), or connect() after TCP_FASTOPEN_CONNECT: payload goes in the SYN */
	if (tp->fastopen_req || BPF_CORE_READ_BITFIELD(tp, fastopen_connect))
		return KMESH_C_REFUSED_FASTOPEN;
	return KMESH_C_WAYPOINT;
}

/* Cuts a flow that stands already: no route any more, so nothing of it leaves
 * this host; what is queued times out, and a reader learns it by keepalive. */
static __always_inline void cut(struct bpf_sock_ops *ctx, struct kmesh_dst *dst, __u32 why)
{
	int nowhere = KMESH_NOWHERE;
	int timeout = KMESH_ABORT_MS;
	int one = 1;

	dst->state = (dst->state & ~KMESH_DST_WANTS_METADATA) | KMESH_DST_ABORTED;
	bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &nowhere, sizeof(nowhere));
	bpf_setsockopt(ctx, SOL_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPIDLE, &one, sizeof(one));
	bpf_setsockopt(ctx, SOL_TCP, TCP_KEEPINTVL, &one, sizeof(one));
	bpf_setsockopt(ctx, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	count(why);
}

/* Whether payload was queued, or a sender waits to queue it, before the
 * connection stood: the hook on sends will not see it. */
static __always_inline bool has_early_data(struct tcp_sock *tp)
{
	return tp->inet_conn.icsk_inet.sk.sk_write_pending || tp->write_seq != tp->snd_una;
}

static __always_inline struct kmesh_dst *dst_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? bpf_sk_storage_get(&map_of_dst_info, sk, NULL, 0) : NULL;
}

static __always_inline void leave_map(struct bpf_sock_ops *ctx, struct kmesh_dst *dst)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	bpf_map_delete_elem(&map_of_kmesh_socket, &cookie);
	dst->state &= ~KMESH_DST_IN_MAP;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~KMESH_WATCHED);
}

/* A SYN is about to be sent. The socket may have been used before (a refused
 * connection, connect(AF_UNSPEC)): what is noted holds only if connect() noted it
 * for this very destination. Here and not in connect(), which would pay for the
 * look-up each time. The kernel keeps such a socket in the map, too. */
static __always_inline void syn_sent(struct bpf_sock_ops *ctx)
{
	struct kmesh_dst *dst = dst_of(ctx);
	struct bpf_sock *sk = ctx->sk;

	if (!dst || !sk)
		return;
	if (dst->state & KMESH_DST_IN_MAP)
		leave_map(ctx, dst);
	if (dst->state & KMESH_DST_DIALLED && dst->target == sk->dst_ip6[3] &&
	    dst->target_port == sk->dst_port)
		dst->state &= ~KMESH_DST_DIALLED;
	else
		dst->state = 0;
}

/* The connection stands. */
static __always_inline void hold_first_send(struct bpf_sock_ops *ctx)
{
	struct kmesh_dst *dst = dst_of(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__u64 cookie;

	if (!dst || !(dst->state & KMESH_DST_WANTS_METADATA) || !sk)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || has_early_data(tp)) {
		cut(ctx, dst, KMESH_C_ABORTED_EARLY_DATA);
		return;
	}
	cookie = bpf_get_socket_cookie(ctx);
	/* full, or a socket that it does not take: never without metadata */
	if (bpf_sock_hash_update(ctx, &map_of_kmesh_socket, &cookie, BPF_NOEXIST)) {
		cut(ctx, dst, KMESH_C_ABORTED_SOCKHASH);
		return;
	}
	dst->state |= KMESH_DST_IN_MAP;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | KMESH_WATCHED);
}

/* An acknowledgement gave an RTT sample. */
static __always_inline void release_socket(struct bpf_sock_ops *ctx)
{
	struct kmesh_dst *dst = dst_of(ctx);

	if (!dst || !(dst->state & KMESH_DST_IN_MAP) || !(dst->state & KMESH_DST_SENT))
		return;
	/* of what went before the metadata: it may still be lost */
	if ((__s32)(ctx->snd_una - dst->seq) <= 0)
		return;
	leave_map(ctx, dst);
}

/* The socket's state changes. After shutdown() nothing more can be sent, so the
 * socket leaves the map: in it, a blocking receive is woken by the acknowledged
 * FIN and answers EAGAIN (tcp_bpf_recvmsg waits only once). */
static __always_inline void finish_sending(struct bpf_sock_ops *ctx)
{
	__u32 state = ctx->args[1];
	struct kmesh_dst *dst;

	if (state != BPF_TCP_FIN_WAIT1 && state != BPF_TCP_LAST_ACK)
		return;
	dst = dst_of(ctx);
	if (dst && dst->state & KMESH_DST_IN_MAP)
		leave_map(ctx, dst);
}

#endif /* KMESH_WAYPOINT_H */
