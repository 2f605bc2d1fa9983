/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections that pass whatever the policies say: those that the host's own
 * sockets open (probes), and those of a pod to itself. Addresses do not tell them:
 * clients from outside may be masqueraded behind the host's, and a pod has more
 * addresses than the model knows. So sockops notes each before its SYN, with the
 * namespace that dials, and the pod's hook looks here before it denies.
 */
#ifndef KMESH_DIALLED_H
#define KMESH_DIALLED_H

#include "kernel.h"
#include "lookup.h"

#define NSEC_PER_SEC 1000000000ULL

static __always_inline __u32 dialled_tag(const struct kmesh_connection *key)
{
	return kmesh_tag32((const __u32 *)key, sizeof(*key) / sizeof(__u32));
}

/* Whether the socket's route ends in its own namespace. */
static __always_inline bool stays_inside(struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct dst_entry *route;
	struct net_device *dev;

	if (!tp)
		return false;
	route = tp->inet_conn.icsk_inet.sk.sk_dst_cache;
	dev = route ? route->dev : NULL;
	return dev && dev->ifindex == LOOPBACK_IFINDEX;
}

/* The socket's own address and port, and those of its peer. */
static __always_inline void ends_of(struct bpf_sock *sk, __be32 own[4], __be16 *own_port,
				    __be32 peer[4], __be16 *peer_port)
{
	__be32 to[4];

	to[0] = sk->dst_ip6[0];
	to[1] = sk->dst_ip6[1];
	to[2] = sk->dst_ip6[2];
	to[3] = sk->dst_ip6[3];
	/* a v4-mapped socket, too, has its own address only as IPv4 before its SYN */
	if (sk->family == AF_INET || is_v4(to)) {
		map_v4(own, sk->src_ip4);
		map_v4(peer, sk->dst_ip4);
	} else {
		own[0] = sk->src_ip6[0];
		own[1] = sk->src_ip6[1];
		own[2] = sk->src_ip6[2];
		own[3] = sk->src_ip6[3];
		__builtin_memcpy(peer, to, sizeof(to));
	}
	*own_port = bpf_htons((__u16)sk->src_port);
	*peer_port = sk->dst_port;
}

static __always_inline __u32 seconds_now(void)
{
	return (__u32)(bpf_ktime_get_ns() / NSEC_PER_SEC);
}

/* A socket is about to send its SYN. */
static __always_inline void note_dial(struct bpf_sock_ops *ctx)
{
	struct kmesh_connection key = {};
	struct bpf_sock *sk = ctx->sk;
	__u64 word;

	if (!(setting(KMESH_SETTING_FLAGS) & KMESH_SET_POLICIES) || !sk)
		return;
	key.cookie = bpf_get_netns_cookie(ctx);
	if (key.cookie != setting(KMESH_SETTING_HOST) && !stays_inside(sk))
		return;
	ends_of(sk, key.source, &key.source_port, key.destination, &key.port);
	word = dialled_tag(&key) | (__u64)seconds_now() << KMESH_DIALLED_TIME_SHIFT;
	bpf_map_update_elem(&host_dialled, &key, &word, BPF_ANY);
}

/* Whether the key's namespace opened this connection just now. An old note is not
 * believed: the port may be somebody else's by now. */
static __always_inline bool dialled(const struct kmesh_connection *key)
{
	const __u64 *found = bpf_map_lookup_elem(&host_dialled, key);
	__u64 word;

	if (!found)
		return false;
	word = word_of(found);
	return (__u32)word == dialled_tag(key) &&
	       seconds_now() - (__u32)(word >> KMESH_DIALLED_TIME_SHIFT) <= KMESH_DIALLED_SECONDS;
}

#endif /* KMESH_DIALLED_H */
