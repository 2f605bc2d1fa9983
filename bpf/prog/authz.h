/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Authorization: whether a pod lets a connection in, decided when its SYN looks
 * for a listening socket. Once per connection, never for what is established.
 *
 *   pod's word -> policy set -> rows of who, source, destination, port
 *     -> bits that all four satisfy -> DENY, ALLOW
 *
 * SK_DROP makes the kernel answer with a reset. What the tables mean stands in
 * docs/authorization.md; bpf/src/authz/image.rs reads them in the same steps.
 *
 * What cannot be decided is denied: an identity that the set does not know, a
 * place beyond a map, tables that changed under every retry. Everything else
 * than TCP passes.
 */
#ifndef KMESH_AUTHZ_H
#define KMESH_AUTHZ_H

#include <linux/in.h>

#include "authz_set.h"
#include "count.h"
#include "dialled.h"
#include "kernel.h"
#include "lookup.h"

/* This copy's pod: the cookie of its network namespace, set when it is loaded. */
const volatile __u64 kmesh_pod_cookie = 0;

/* Who the source is, and whether it is the pod itself. STALE when the tables
 * change under it. */
static __always_inline enum found find_source(struct attempt *attempt)
{
	struct kmesh_frontend_key key = { .kind = KMESH_FRONTEND_WORKLOAD };
	const struct kmesh_backend *backend;
	enum found found;
	__u32 index;

	__builtin_memcpy(key.addr, attempt->key.source, sizeof(key.addr));
	found = find_frontend(&key, &index);
	if (found != FOUND)
		return found;
	backend = bpf_map_lookup_elem(&kmesh_backend, &index);
	if (!backend)
		return STALE;
	attempt->who = *(const volatile __u32 *)&backend->who;
	attempt->own |= index == (__u32)(attempt->pod & KMESH_MANAGER_BACKEND_NONE);
	return FOUND;
}

static __always_inline __u16 pod_set(__u64 pod)
{
	return (__u16)(pod >> KMESH_MANAGER_POLICY_SHIFT);
}

/* One way through the tables, from the pod's word on. */
static __always_inline __u32 attempt_once(struct attempt *attempt, bool *dry_run)
{
	const struct kmesh_auth_set *set;
	__u32 index;

	switch (find_pod(kmesh_pod_cookie, &attempt->pod)) {
	case FOUND:
		break;
	case NOTHING:
		return KMESH_C_AUTH_NONE;
	default:
		return KMESH_C_RETRIED;
	}
	index = pod_set(attempt->pod);
	if (!(pod_flags(attempt->pod) & KMESH_MANAGED) || pod_flags(attempt->pod) & KMESH_BYPASS ||
	    index == KMESH_POLICY_NONE)
		return KMESH_C_AUTH_NONE;
	if (find_source(attempt) == STALE)
		return KMESH_C_RETRIED;
	if (attempt->own)
		return KMESH_C_AUTH_LOCAL;
	if (index == KMESH_POLICY_WAIT)
		return KMESH_C_AUTH_WAIT;
	set = bpf_map_lookup_elem(&kmesh_auth_set, &index);
	/* cleared: the word leads elsewhere by now */
	if (!set || !(set->flags & KMESH_AUTH_VALID))
		return KMESH_C_RETRIED;
	return judge(set, attempt, dry_run);
}

/* Tells whoever listens. What finds no room is counted, and nothing waits. */
static __always_inline void report(const struct attempt *attempt, __u32 why)
{
	struct kmesh_denial *denial = bpf_ringbuf_reserve(&kmesh_denials, sizeof(*denial), 0);

	if (!denial) {
		count(KMESH_C_AUTH_LOST);
		return;
	}
	denial->time = bpf_ktime_get_ns();
	denial->cookie = kmesh_pod_cookie;
	__builtin_memcpy(denial->source, attempt->key.source, sizeof(denial->source));
	__builtin_memcpy(denial->destination, attempt->key.destination,
			 sizeof(denial->destination));
	denial->who = attempt->who;
	denial->source_port = attempt->key.source_port;
	denial->port = bpf_ntohs(attempt->key.port);
	denial->set = pod_set(attempt->pod);
	denial->why = (__u16)why;
	denial->_pad = 0;
	/* whoever listens looks now and then: a storm of denials wakes nobody */
	bpf_ringbuf_submit(denial, BPF_RB_NO_WAKEUP);
}

static __always_inline void read_attempt(struct bpf_sk_lookup *ctx, struct attempt *attempt)
{
	struct kmesh_connection *key = &attempt->key;

	if (ctx->family == AF_INET) {
		map_v4(key->source, ctx->remote_ip4);
		map_v4(key->destination, ctx->local_ip4);
		/* the verifier wants no load from a field that depends on the family */
		barrier();
	} else {
		key->source[0] = ctx->remote_ip6[0];
		key->source[1] = ctx->remote_ip6[1];
		key->source[2] = ctx->remote_ip6[2];
		key->source[3] = ctx->remote_ip6[3];
		key->destination[0] = ctx->local_ip6[0];
		key->destination[1] = ctx->local_ip6[1];
		key->destination[2] = ctx->local_ip6[2];
		key->destination[3] = ctx->local_ip6[3];
	}
	key->source_port = ctx->remote_port;
	key->port = bpf_htons((__u16)ctx->local_port);
}

/* Whether the pod dials itself, as far as the packet says. What comes in from
 * outside with such a source gets no answer: that goes to the pod. */
static __always_inline bool dials_itself(struct bpf_sk_lookup *ctx, const struct attempt *attempt)
{
	const __be32 *a = attempt->key.source;
	const __be32 *b = attempt->key.destination;

	return ctx->ingress_ifindex == LOOPBACK_IFINDEX ||
	       !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

/* What becomes of a connection that would be denied: the pod's own, and the
 * host's, pass. */
static __always_inline __u32 exempt(struct attempt *attempt, __u32 outcome)
{
	attempt->key.cookie = kmesh_pod_cookie;
	if (dialled(&attempt->key))
		return KMESH_C_AUTH_LOCAL;
	attempt->key.cookie = setting(KMESH_SETTING_HOST);
	if (dialled(&attempt->key))
		return KMESH_C_AUTH_HOST;
	return outcome;
}

/* The whole of sk_lookup. */
static __always_inline int authorize(struct bpf_sk_lookup *ctx)
{
	__u32 outcome = KMESH_C_RETRIED;
	struct attempt attempt = {};
	bool dry_run = false;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	read_attempt(ctx, &attempt);
	attempt.own = dials_itself(ctx, &attempt);
#pragma clang loop unroll(disable)
	for (int i = 0; i < KMESH_TRIES && outcome == KMESH_C_RETRIED; i++) {
		if (i)
			count(KMESH_C_RETRIED);
		outcome = attempt_once(&attempt, &dry_run);
	}
	if (outcome == KMESH_C_RETRIED)
		outcome = KMESH_C_AUTH_STALE;
	if (outcome != KMESH_C_AUTH_ALLOWED && outcome != KMESH_C_AUTH_NONE &&
	    outcome != KMESH_C_AUTH_LOCAL)
		outcome = exempt(&attempt, outcome);
	count(outcome);
	switch (outcome) {
	case KMESH_C_AUTH_ALLOWED:
		break;
	case KMESH_C_AUTH_NONE:
	case KMESH_C_AUTH_LOCAL:
	case KMESH_C_AUTH_HOST:
		return SK_PASS;
	default:
		report(&attempt, outcome);
	}
	if (dry_run) {
		count(KMESH_C_AUTH_DRY_RUN);
		if (outcome == KMESH_C_AUTH_ALLOWED)
			report(&attempt, KMESH_C_AUTH_DRY_RUN);
	}
	return outcome == KMESH_C_AUTH_ALLOWED ? SK_PASS : SK_DROP;
}

#endif /* KMESH_AUTHZ_H */
