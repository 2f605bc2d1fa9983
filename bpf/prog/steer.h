/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect(): one body for both families.
 *
 *   managed? -> bypass? -> frontend -> service word -> slot -> endpoint word
 *     -> backend -> write the destination
 *
 * Every attempt ends in an outcome, which is the counter that it counts into;
 * KMESH_C_RETRIED is the one that starts again. Only TCP is steered.
 */
#ifndef KMESH_STEER_H
#define KMESH_STEER_H

#include <linux/errno.h>
#include <linux/in.h>

#include "count.h"
#include "kernel.h"
#include "lookup.h"
#include "waypoint.h"

/* What a cgroup hook answers. */
#define PASS 1
#define REFUSE 0

struct dial {
	struct kmesh_frontend_key key; /* as a service's VIP and port */
	__u64 pod;                     /* word of map_of_manager */
};

/* Where an attempt leads so far. */
struct way {
	__u64 service;  /* word of the record whose slots are picked from */
	__u64 waypoint; /* waypoint word, where a waypoint is named */
	bool named;
};

/* The service that was dialled: KMESH_C_STEERED, MISS or RETRIED. */
static __always_inline __u32 at_service(const struct dial *dial, struct way *way)
{
	const struct kmesh_service *service;
	__u32 index;

	switch (find_frontend(&dial->key, &index)) {
	case FOUND:
		break;
	case NOTHING:
		return KMESH_C_MISS;
	default:
		return KMESH_C_RETRIED;
	}
	service = find_service(index, &way->service);
	if (!service)
		return KMESH_C_RETRIED;
	way->named = service_flags(way->service) & KMESH_SERVICE_WAYPOINT;
	if (way->named)
		way->waypoint = word_of(&service->waypoint);
	return KMESH_C_STEERED;
}

/* No such service: the address may be that of a workload which names a waypoint.
 * KMESH_C_MISS or RETRIED. */
static __always_inline __u32 at_workload(const struct dial *dial, struct way *way)
{
	struct kmesh_frontend_key key = dial->key;
	const struct kmesh_backend *backend;
	__u32 index;

	key.port = 0;
	key.kind = KMESH_FRONTEND_WORKLOAD;
	switch (find_frontend(&key, &index)) {
	case FOUND:
		break;
	case NOTHING:
		return KMESH_C_MISS;
	default:
		return KMESH_C_RETRIED;
	}
	backend = bpf_map_lookup_elem(&kmesh_backend, &index);
	if (!backend)
		return KMESH_C_RETRIED;
	way->waypoint = word_of(is_v4(key.addr) ? &backend->waypoint_v4 : &backend->waypoint_v6);
	way->named = way->waypoint;
	return KMESH_C_MISS;
}

/* KMESH_C_WAYPOINT when this connection meets the waypoint that is named; else
 * what going past it to an endpoint counts as. */
static __always_inline __u32 meets_waypoint(const struct dial *dial)
{
	__u32 index = dial->pod & KMESH_MANAGER_BACKEND_NONE;
	const struct kmesh_backend *self;

	if (is_exempt(bpf_ntohs(dial->key.port)))
		return KMESH_C_STEERED;
	if (index == KMESH_MANAGER_BACKEND_NONE)
		return KMESH_C_WAYPOINT;
	self = bpf_map_lookup_elem(&kmesh_backend, &index);
	/* a waypoint's own connections meet none: they would go round in circles */
	if (self && (word_of(&self->word) >> KMESH_BACKEND_FLAGS_SHIFT) & KMESH_BACKEND_WAYPOINT)
		return KMESH_C_WAYPOINT_SELF;
	return KMESH_C_WAYPOINT;
}

/* The waypoint's record takes the service's place. False while it is in transit. */
static __always_inline bool turn_to_waypoint(struct way *way)
{
	/* the flag says so, but the word is still to be written */
	if (!((way->waypoint >> KMESH_WAYPOINT_FLAGS_SHIFT) & KMESH_WAYPOINT_VALID))
		return false;
	return find_service((__u32)way->waypoint, &way->service);
}

/* What it means that there is no endpoint to pick. */
static __always_inline __u32 without_endpoint(const struct way *way, __u32 outcome)
{
	/* never around the waypoint */
	if (outcome == KMESH_C_WAYPOINT)
		return KMESH_C_REFUSED_WAYPOINT;
	/* known to be empty: refuse rather than leak to another path */
	if (service_flags(way->service) & KMESH_SERVICE_SYNCED)
		return KMESH_C_REFUSED_EMPTY;
	return KMESH_C_UNSYNCED;
}

/* One way through the tables, from the frontend on. */
static __always_inline __u32 attempt(const struct dial *dial, struct target *target)
{
	struct way way = {};
	__u32 outcome = at_service(dial, &way);
	__u32 past;

	if (outcome == KMESH_C_MISS)
		outcome = at_workload(dial, &way);
	if (outcome == KMESH_C_RETRIED)
		return outcome;
	if (way.named) {
		past = meets_waypoint(dial);
		if (past == KMESH_C_WAYPOINT || outcome == KMESH_C_STEERED)
			outcome = past;
		if (outcome == KMESH_C_WAYPOINT && !turn_to_waypoint(&way))
			return KMESH_C_RETRIED;
	}
	/* a workload's own address, and nothing in the way */
	if (outcome == KMESH_C_MISS)
		return outcome;
	if (outcome != KMESH_C_WAYPOINT && service_flags(way.service) & KMESH_SERVICE_PASSTHROUGH)
		return KMESH_C_PASSTHROUGH;
	switch (pick_endpoint(way.service, target)) {
	case FOUND:
		return outcome;
	case NOTHING:
		return without_endpoint(&way, outcome);
	default:
		return KMESH_C_RETRIED;
	}
}

/* Whether the socket can reach an address of the target's family. An IPv6 socket
 * dials IPv4 as v4-mapped, unless it is IPv6-only or bound to the other family. */
static __always_inline bool family_fits(struct bpf_sock_addr *ctx, const bool v4_socket,
					const struct dial *dial, const struct target *target)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__be32 source[4];

	if (v4_socket)
		return !target->v6;
	/* as the application wanted it: not for us to judge */
	if (is_v4(dial->key.addr) == !target->v6)
		return true;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && !target->v6 &&
	    BPF_CORE_READ_BITFIELD(&tp->inet_conn.icsk_inet.sk.__sk_common, skc_ipv6only))
		return false;
	source[0] = sk->src_ip6[0];
	source[1] = sk->src_ip6[1];
	source[2] = sk->src_ip6[2];
	source[3] = sk->src_ip6[3];
	if (!(source[0] | source[1] | source[2] | source[3]))
		return true;
	return is_v4(source) == !target->v6;
}

static __always_inline int refuse(__u32 outcome)
{
	switch (outcome) {
	case KMESH_C_REFUSED_FASTOPEN:
	case KMESH_C_REFUSED_MPTCP:
		bpf_set_retval(-EOPNOTSUPP);
		break;
	case KMESH_C_REFUSED_STORAGE:
		bpf_set_retval(-ENOMEM);
		break;
	default:
		bpf_set_retval(-ECONNREFUSED);
	}
	count(outcome);
	return REFUSE;
}

static __always_inline void write_target(struct bpf_sock_addr *ctx, const bool v4_socket,
					 const struct target *target)
{
	if (v4_socket) {
		ctx->user_ip4 = target->addr[3];
	} else {
		ctx->user_ip6[0] = target->addr[0];
		ctx->user_ip6[1] = target->addr[1];
		ctx->user_ip6[2] = target->addr[2];
		ctx->user_ip6[3] = target->addr[3];
	}
	ctx->user_port = target->port;
}

/* The last checks before the destination is written; answers the outcome. */
static __always_inline __u32 ready(struct bpf_sock_addr *ctx, const bool v4_socket,
				   const struct dial *dial, const struct target *target,
				   __u32 outcome)
{
	bool peername = setting(KMESH_SETTING_FLAGS) & KMESH_SET_PEERNAME;
	__u16 state = peername ? KMESH_DST_PEERNAME : 0;

	if (!family_fits(ctx, v4_socket, dial, target))
		return KMESH_C_REFUSED_FAMILY;
	if (outcome == KMESH_C_WAYPOINT) {
		outcome = guard_waypoint(ctx);
		if (outcome == KMESH_C_WAYPOINT &&
		    !remember(ctx, &dial->key, target, state | KMESH_DST_WANTS_METADATA))
			return KMESH_C_REFUSED_STORAGE;
	} else if (peername) {
		/* without memory getpeername answers the endpoint: not worth a refusal */
		remember(ctx, &dial->key, target, state);
	}
	return outcome;
}

/* A managed pod's TCP connection. */
static __always_inline int steer(struct bpf_sock_addr *ctx, const bool v4_socket,
				 const struct dial *dial)
{
	__u32 outcome = KMESH_C_RETRIED;
	struct target target = {};

#pragma clang loop unroll(disable)
	for (int i = 0; i < KMESH_TRIES && outcome == KMESH_C_RETRIED; i++) {
		if (i)
			count(KMESH_C_RETRIED);
		outcome = attempt(dial, &target);
	}
	switch (outcome) {
	case KMESH_C_MISS:
	case KMESH_C_PASSTHROUGH:
	case KMESH_C_UNSYNCED:
		count(outcome);
		return PASS;
	case KMESH_C_STEERED:
	case KMESH_C_WAYPOINT:
	case KMESH_C_WAYPOINT_SELF:
		break;
	case KMESH_C_RETRIED:
		return refuse(KMESH_C_REFUSED_STALE);
	default:
		return refuse(outcome);
	}
	outcome = ready(ctx, v4_socket, dial, &target, outcome);
	switch (outcome) {
	case KMESH_C_STEERED:
	case KMESH_C_WAYPOINT:
	case KMESH_C_WAYPOINT_SELF:
		write_target(ctx, v4_socket, &target);
		count(outcome);
		return PASS;
	default:
		return refuse(outcome);
	}
}

/* The word of the pod that connects; NOTHING for everything that is not ours. */
static __always_inline enum found find_own_pod(struct bpf_sock_addr *ctx, __u64 *word)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	enum found found = find_pod(cookie, word);

#pragma clang loop unroll(disable)
	for (int i = 1; i < KMESH_TRIES && found == STALE; i++) {
		count(KMESH_C_RETRIED);
		found = find_pod(cookie, word);
	}
	if (found == FOUND && !(pod_flags(*word) & KMESH_MANAGED))
		return NOTHING;
	return found;
}

/* The whole of connect4 and connect6. `v4_socket` is a constant: each program has
 * only its own family's writes. */
static __always_inline int connect_hook(struct bpf_sock_addr *ctx, const bool v4_socket)
{
	struct dial dial = {};

	switch (find_own_pod(ctx, &dial.pod)) {
	case FOUND:
		break;
	case NOTHING:
		return PASS;
	default:
		return refuse(KMESH_C_REFUSED_STALE);
	}
	/* UDP, SCTP and raw sockets pass */
	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM)
		return PASS;
	if (pod_flags(dial.pod) & KMESH_BYPASS) {
		count(KMESH_C_BYPASS);
		return PASS;
	}
	if (v4_socket) {
		map_v4(dial.key.addr, ctx->user_ip4);
	} else {
		dial.key.addr[0] = ctx->user_ip6[0];
		dial.key.addr[1] = ctx->user_ip6[1];
		dial.key.addr[2] = ctx->user_ip6[2];
		dial.key.addr[3] = ctx->user_ip6[3];
	}
	dial.key.port = (__be16)ctx->user_port;
	return steer(ctx, v4_socket, &dial);
}

#endif /* KMESH_STEER_H */
