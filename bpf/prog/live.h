/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Live connections: inbound ones of pods that have a policy set are noted when they
 * are established, with why they were let in, and forgotten when they close, whatever
 * closes them. So that they can be judged again when policies change.
 *
 * Which connections there are, the kernel's sockets say; the note says what they do
 * not: that the host dialled, or the pod itself. So one that finds no room is counted
 * and lives on. It refuses to note what a socket of the pod dialled.
 */
#ifndef KMESH_LIVE_H
#define KMESH_LIVE_H

#include "count.h"
#include "dialled.h"
#include "kernel.h"
#include "lookup.h"

/* The policy set of the pod in this namespace, or KMESH_POLICY_NONE: one look-up. */
static __always_inline __u16 set_of(__u64 cookie)
{
	enum found found = STALE;
	__u64 pod = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < KMESH_TRIES && found == STALE; i++)
		found = find_pod(cookie, &pod);
	if (found != FOUND || !(pod_flags(pod) & KMESH_MANAGED) || pod_flags(pod) & KMESH_BYPASS)
		return KMESH_POLICY_NONE;
	return (__u16)(pod >> KMESH_MANAGER_POLICY_SHIFT);
}

/* Whether the source is a workload that has an identity. */
static __always_inline bool has_identity(const __be32 source[4])
{
	struct kmesh_frontend_key key = { .kind = KMESH_FRONTEND_WORKLOAD };
	const struct kmesh_backend *backend;
	__u32 index;

	__builtin_memcpy(key.addr, source, sizeof(key.addr));
	if (find_frontend(&key, &index) != FOUND)
		return false;
	backend = bpf_map_lookup_elem(&kmesh_backend, &index);
	return backend && *(const volatile __u32 *)&backend->who;
}

/* Why the connection was let in, as far as the pod's hook knew it, too. */
static __always_inline __u64 why_of(const struct kmesh_connection *connection)
{
	struct kmesh_connection key = *connection;

	if (dialled(&key))
		return KMESH_LIVE_LOCAL;
	key.cookie = setting(KMESH_SETTING_HOST);
	if (dialled(&key))
		return KMESH_LIVE_HOST;
	return has_identity(key.source) ? KMESH_LIVE_JUDGED : KMESH_LIVE_NOBODY;
}

/* The connection that the socket accepted. */
static __always_inline void read_live(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				      struct kmesh_connection *key)
{
	key->cookie = bpf_get_netns_cookie(ctx);
	ends_of(sk, key->destination, &key->port, key->source, &key->source_port);
}

/* A connection stands that came in. */
static __always_inline void note_live(struct bpf_sock_ops *ctx)
{
	struct kmesh_connection key = {};
	struct bpf_sock *sk = ctx->sk;
	struct kmesh_live live = {};
	struct tcp_sock *tp;
	__u16 set;

	if (!sk)
		return;
	set = set_of(bpf_get_netns_cookie(ctx));
	if (set == KMESH_POLICY_NONE)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	/* a process holds it already: it dialled, and the two SYNs met */
	if (!tp || tp->inet_conn.icsk_inet.sk.sk_socket)
		return;
	read_live(ctx, sk, &key);
	live.socket = bpf_get_socket_cookie(ctx);
	live.word = why_of(&key) | (__u64)set << KMESH_LIVE_SET_SHIFT |
		    (__u64)seconds_now() << KMESH_LIVE_TIME_SHIFT;
	/* first, so that no note can outlive its connection */
	if (bpf_sock_ops_cb_flags_set(ctx,
				      ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) ||
	    bpf_map_update_elem(&map_of_tuple, &key, &live, BPF_ANY))
		count(KMESH_C_LIVE_FULL);
}

/* The socket's state changes. Of a connection with the same addresses that stands by
 * now, nothing is forgotten. */
static __always_inline void forget_live(struct bpf_sock_ops *ctx)
{
	struct kmesh_connection key = {};
	struct bpf_sock *sk = ctx->sk;
	struct kmesh_revoked *revoked;
	struct kmesh_live *live;
	__u64 socket;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk)
		return;
	read_live(ctx, sk, &key);
	socket = bpf_get_socket_cookie(ctx);
	live = bpf_map_lookup_elem(&map_of_tuple, &key);
	if (live && word_of(&live->socket) == socket)
		bpf_map_delete_elem(&map_of_tuple, &key);
	revoked = bpf_map_lookup_elem(&map_of_auth, &key);
	if (revoked && word_of(&revoked->socket) == socket)
		bpf_map_delete_elem(&map_of_auth, &key);
}

#endif /* KMESH_LIVE_H */
