/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The second way to end live connections: what a client sends on one that stands in
 * map_of_auth becomes a reset. The pod's socket ends; the client learns from the
 * stack's answer to its next packet.
 *
 * It refuses to touch a packet that may be of another connection: a SYN, and one
 * whose socket is not the one that was noted.
 */
#ifndef KMESH_REVOKE_H
#define KMESH_REVOKE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "kernel.h"
#include "lookup.h"

/* This copy's pod: the cookie of its network namespace, set when it is loaded. */
const volatile __u64 kmesh_pod_cookie = 0;

#define TCP_FLAGS 12       /* the 16 bits of a TCP header that have the flags */
#define IP_FRAGMENT 0x3fff /* more fragments, or not the first */

/* What is looked for: the connection, and the same as the kernel's look-up wants it. */
struct segment {
	struct kmesh_connection key;
	struct bpf_sock_tuple tuple;
	bool v6;
	struct tcphdr *tcp;
};

/* A TCP segment by IPv4. */
static __always_inline bool read_v4(struct segment *of, void *data, void *end)
{
	struct iphdr *ip = data;
	struct tcphdr *tcp;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5 ||
	    ip->protocol != IPPROTO_TCP || ip->frag_off & bpf_htons(IP_FRAGMENT))
		return false;
	tcp = data + ip->ihl * 4;
	if ((void *)(tcp + 1) > end)
		return false;
	of->key.source[2] = of->key.destination[2] = bpf_htonl(0xffff);
	of->key.source[3] = of->tuple.ipv4.saddr = ip->saddr;
	of->key.destination[3] = of->tuple.ipv4.daddr = ip->daddr;
	of->tuple.ipv4.sport = tcp->source;
	of->tuple.ipv4.dport = tcp->dest;
	of->tcp = tcp;
	return true;
}

/* A TCP segment by IPv6, without extension headers. */
static __always_inline bool read_v6(struct segment *of, void *data, void *end)
{
	struct ipv6hdr *ip = data;
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return false;
	__builtin_memcpy(of->key.source, &ip->saddr, sizeof(of->key.source));
	__builtin_memcpy(of->key.destination, &ip->daddr, sizeof(of->key.destination));
	__builtin_memcpy(of->tuple.ipv6.saddr, &ip->saddr, sizeof(of->key.source));
	__builtin_memcpy(of->tuple.ipv6.daddr, &ip->daddr, sizeof(of->key.destination));
	of->tuple.ipv6.sport = tcp->source;
	of->tuple.ipv6.dport = tcp->dest;
	of->v6 = true;
	of->tcp = tcp;
	return true;
}

/* The cookie of the socket, or of the half-open connection, that the segment is for; 0
 * where there is none. */
static __always_inline __u64 socket_of(struct xdp_md *ctx, struct segment *of)
{
	struct tcp_request_sock *request;
	struct bpf_sock *sk;
	struct tcp_sock *tp;
	__u64 cookie = 0;

	/* the verifier wants to see the size */
	if (of->v6)
		sk = bpf_skc_lookup_tcp(ctx, &of->tuple, sizeof(of->tuple.ipv6),
					BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_skc_lookup_tcp(ctx, &of->tuple, sizeof(of->tuple.ipv4),
					BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		cookie = tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter;
	} else {
		request = bpf_skc_to_tcp_request_sock(sk);
		if (request)
			cookie = request->req.req.__req_common.skc_cookie.counter;
	}
	bpf_sk_release(sk);
	return cookie;
}

/* Sets the RST flag; the checksum follows (RFC 1624). */
static __always_inline void make_reset(struct tcphdr *tcp)
{
	__u16 *flags = (void *)tcp + TCP_FLAGS;
	__u16 before = *flags;
	__u32 sum;

	tcp->rst = 1;
	sum = (__u16)~tcp->check + (__u16)~before + *flags;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	tcp->check = ~sum;
}

static __always_inline void revoke(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct segment of = { .key.cookie = kmesh_pod_cookie };
	const struct kmesh_revoked *revoked;
	struct ethhdr *eth = data;
	__u64 noted;

	if ((void *)(eth + 1) > end)
		return;
	if (!(eth->h_proto == bpf_htons(ETH_P_IP) && read_v4(&of, eth + 1, end)) &&
	    !(eth->h_proto == bpf_htons(ETH_P_IPV6) && read_v6(&of, eth + 1, end)))
		return;
	if (of.tcp->syn)
		return;
	of.key.source_port = of.tcp->source;
	of.key.port = of.tcp->dest;
	revoked = bpf_map_lookup_elem(&map_of_auth, &of.key);
	if (!revoked)
		return;
	noted = word_of(&revoked->socket);
	if (noted && noted == socket_of(ctx, &of))
		make_reset(of.tcp);
}

#endif /* KMESH_REVOKE_H */
