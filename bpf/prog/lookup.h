/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Look-ups in the tables: pod, frontend, service, slot, backend, settings.
 *
 * Each follows the one rule of shared memory (layout.h): of what may change only
 * a single aligned 8-byte load is trusted, and a hash value only with the tag of
 * its key. A look-up that met a recycled element or an index in transit answers
 * STALE: whoever asked starts again from the frontend.
 *
 * It refuses nothing and counts nothing: that is for steer.h.
 */
#ifndef KMESH_LOOKUP_H
#define KMESH_LOOKUP_H

#include <stdbool.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

/* How often a look-up is made before the connection is refused. */
#define KMESH_TRIES 4

enum found {
	FOUND,
	NOTHING, /* no such entry, or a service without endpoints */
	STALE,   /* the tables changed under the look-up */
};

/* An address, IPv4 as ::ffff:a.b.c.d; the port in network order. */
struct target {
	__be32 addr[4];
	__be16 port;
	bool v6;
};

static __always_inline __u64 word_of(const __u64 *word)
{
	return *(const volatile __u64 *)word;
}

static __always_inline bool is_v4(const __be32 addr[4])
{
	return !addr[0] && !addr[1] && addr[2] == bpf_htonl(0xffff);
}

/* The pod's word, once. */
static __always_inline enum found find_pod(__u64 cookie, __u64 *word)
{
	const __u32 halves[2] = { (__u32)cookie, (__u32)(cookie >> 32) };
	const __u64 *value = bpf_map_lookup_elem(&map_of_manager, &cookie);

	if (!value)
		return NOTHING;
	*word = word_of(value);
	if (*word >> KMESH_MANAGER_TAG_SHIFT != (__u16)kmesh_tag32(halves, 2))
		return STALE;
	return FOUND;
}

static __always_inline __u8 pod_flags(__u64 pod)
{
	return (__u8)(pod >> KMESH_MANAGER_FLAGS_SHIFT);
}

/* What an address leads to: an index into kmesh_service or kmesh_backend. */
static __always_inline enum found find_frontend(const struct kmesh_frontend_key *key, __u32 *index)
{
	const __u64 *value = bpf_map_lookup_elem(&kmesh_frontend, key);
	__u64 word;

	if (!value)
		return NOTHING;
	word = word_of(value);
	*index = (__u32)word;
	if ((__u32)(word >> KMESH_FRONTEND_TAG_SHIFT) !=
	    kmesh_tag32((const __u32 *)key, sizeof(*key) / sizeof(__u32)))
		return STALE;
	return FOUND;
}

static __always_inline __u16 service_flags(__u64 word)
{
	return (__u16)(word >> KMESH_SERVICE_FLAGS_SHIFT);
}

static __always_inline __u32 service_count(__u64 word)
{
	return (__u32)(word >> KMESH_SERVICE_COUNT_SHIFT) & ((1U << KMESH_SERVICE_COUNT_BITS) - 1);
}

static __always_inline __u32 service_base(__u64 word)
{
	return (__u32)word & ((1U << KMESH_SERVICE_BASE_BITS) - 1);
}

/* The service's record; its word is copied out once, so that flags, base and
 * count are of one moment. */
static __always_inline const struct kmesh_service *find_service(__u32 index, __u64 *word)
{
	const struct kmesh_service *service = bpf_map_lookup_elem(&kmesh_service, &index);

	if (!service)
		return NULL;
	*word = word_of(&service->word);
	/* a cleared record: its frontend is gone or leads elsewhere by now */
	if (!(service_flags(*word) & KMESH_SERVICE_VALID))
		return NULL;
	return service;
}

static __always_inline void map_v4(__be32 addr[4], __be32 v4)
{
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = v4;
}

/* The address that an endpoint word means. The backend's addresses do not change
 * while a slot leads to it, so they need no single load. */
static __always_inline enum found find_backend(__u64 endpoint, struct target *target)
{
	__u16 flags = (__u16)(endpoint >> KMESH_ENDPOINT_FLAGS_SHIFT);
	__u32 index = (__u32)endpoint;
	const struct kmesh_backend *backend;
	__u64 word;

	/* a slot that was never written: the service word is older than the slot's range */
	if (!(flags & KMESH_ENDPOINT_VALID))
		return STALE;
	backend = bpf_map_lookup_elem(&kmesh_backend, &index);
	if (!backend)
		return STALE;
	target->port = bpf_htons((__u16)(endpoint >> KMESH_ENDPOINT_PORT_SHIFT));
	target->v6 = flags & KMESH_ENDPOINT_V6;
	if (target->v6) {
		__builtin_memcpy(target->addr, backend->v6, sizeof(target->addr));
		return FOUND;
	}
	word = word_of(&backend->word);
	if (!((word >> KMESH_BACKEND_FLAGS_SHIFT) & KMESH_BACKEND_V4))
		return STALE;
	map_v4(target->addr, (__be32)word);
	return FOUND;
}

/* One of the service's endpoints, each as likely as another. */
static __always_inline enum found pick_endpoint(__u64 service, struct target *target)
{
	__u32 count = service_count(service);
	const __u64 *slot;
	__u32 index;

	if (!count)
		return NOTHING;
	/* scales 32 random bits to [0, count) without a division */
	index = service_base(service) + (__u32)(((__u64)bpf_get_prandom_u32() * count) >> 32);
	slot = bpf_map_lookup_elem(&kmesh_endpoint, &index);
	if (!slot)
		return STALE;
	return find_backend(word_of(slot), target);
}

static __always_inline __u64 setting(__u32 index)
{
	const __u64 *value = bpf_map_lookup_elem(&kmesh_settings, &index);

	return value ? word_of(value) : 0;
}

/* Whether a waypoint never sees connections to this port (host order, not 0). */
static __always_inline bool is_exempt(__u16 port)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < KMESH_EXEMPT_PORTS / 4; i++) {
		__u64 four = setting(KMESH_SETTING_EXEMPT_PORTS + i);

		for (int at = 0; at < 64; at += 16)
			if ((__u16)(four >> at) == port)
				return true;
	}
	return false;
}

#endif /* KMESH_LOOKUP_H */
