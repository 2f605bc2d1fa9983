/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The metadata that a waypoint reads first: the original destination, as the
 * Kmesh TLV or, by setting, as PROXY protocol v2.
 *
 *   TLV       01 | length u32 (6, 18) | address 4, 16 B | port u16 | FE | 00000000
 *   PROXY v2  signature 12 B | 21 | 11, 21 | length u16 (12, 36)
 *             | source address | destination address | source port | destination port
 *
 * All numbers big-endian. It refuses to let payload pass where the metadata could
 * not be put before it.
 */
#ifndef KMESH_METADATA_H
#define KMESH_METADATA_H

#include "count.h"
#include "kernel.h"
#include "lookup.h"

#define TLV_DESTINATION 0x01
#define TLV_END 0xfe
#define TLV_V4 16
#define TLV_V6 28
#define PROXY_SIGNATURE { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a }
#define PROXY_VERSION_COMMAND 0x21 /* version 2, PROXY */
#define PROXY_TCP4 0x11
#define PROXY_TCP6 0x21
#define PROXY_V4 28
#define PROXY_V6 52

/* Puts `length` bytes (a constant) before the payload of this send. */
static __always_inline bool prepend(struct sk_msg_md *msg, const __u8 *bytes, const __u32 length)
{
	__u8 *data;

	if (bpf_msg_push_data(msg, 0, length, 0) || bpf_msg_pull_data(msg, 0, length, 0))
		return false;
	data = msg->data;
	if (data + length > (__u8 *)msg->data_end)
		return false;
	__builtin_memcpy(data, bytes, length);
	return true;
}

static __always_inline bool prepend_tlv(struct sk_msg_md *msg, const struct kmesh_dst *dst)
{
	__u8 tlv[TLV_V6] = { TLV_DESTINATION };

	if (is_v4(dst->addr)) {
		tlv[4] = 6;
		__builtin_memcpy(tlv + 5, &dst->addr[3], 4);
		__builtin_memcpy(tlv + 9, &dst->port, 2);
		tlv[11] = TLV_END;
		return prepend(msg, tlv, TLV_V4);
	}
	tlv[4] = 18;
	__builtin_memcpy(tlv + 5, dst->addr, 16);
	__builtin_memcpy(tlv + 21, &dst->port, 2);
	tlv[23] = TLV_END;
	return prepend(msg, tlv, TLV_V6);
}

/* The socket's own address, IPv4 as v4-mapped. Read wholly (volatile) and chosen
 * after: the verifier takes only constant offsets into the context. */
static __always_inline void source_of(const volatile struct sk_msg_md *msg, __be32 addr[4])
{
	__be32 v4 = msg->local_ip4;

	addr[0] = msg->local_ip6[0];
	addr[1] = msg->local_ip6[1];
	addr[2] = msg->local_ip6[2];
	addr[3] = msg->local_ip6[3];
	if (msg->family == AF_INET)
		map_v4(addr, v4);
}

/* Both addresses are of one family here: where they differ, IPv4 as v4-mapped. */
static __always_inline bool prepend_proxy(struct sk_msg_md *msg, const struct kmesh_dst *dst)
{
	__u8 proxy[PROXY_V6] = PROXY_SIGNATURE;
	__be16 port = bpf_htons((__u16)msg->local_port);
	__be32 source[4];

	source_of(msg, source);
	proxy[12] = PROXY_VERSION_COMMAND;
	if (is_v4(dst->addr) && is_v4(source)) {
		proxy[13] = PROXY_TCP4;
		proxy[15] = 12;
		__builtin_memcpy(proxy + 16, &source[3], 4);
		__builtin_memcpy(proxy + 20, &dst->addr[3], 4);
		__builtin_memcpy(proxy + 24, &port, 2);
		__builtin_memcpy(proxy + 26, &dst->port, 2);
		return prepend(msg, proxy, PROXY_V4);
	}
	proxy[13] = PROXY_TCP6;
	proxy[15] = 36;
	__builtin_memcpy(proxy + 16, source, 16);
	__builtin_memcpy(proxy + 32, dst->addr, 16);
	__builtin_memcpy(proxy + 48, &port, 2);
	__builtin_memcpy(proxy + 50, &dst->port, 2);
	return prepend(msg, proxy, PROXY_V6);
}

/* A send of a socket in map_of_kmesh_socket. */
static __always_inline int first_send(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct kmesh_dst *dst;
	struct tcp_sock *tp;
	bool done;

	if (!sk)
		return SK_DROP;
	dst = bpf_sk_storage_get(&map_of_dst_info, sk, NULL, 0);
	/* only sockets with an original destination are in the map */
	if (!dst)
		return SK_DROP;
	/* connected anew, to where no metadata is due */
	if (!(dst->state & KMESH_DST_WANTS_METADATA))
		return SK_PASS;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return SK_DROP;
	/* on its way. A send that failed for want of memory queued nothing: the
	 * sequence number is the same, and the metadata must be put again */
	if (dst->state & KMESH_DST_SENT && tp->write_seq != dst->seq)
		return SK_PASS;
	if (setting(KMESH_SETTING_FLAGS) & KMESH_SET_PROXY_V2)
		done = prepend_proxy(msg, dst);
	else
		done = prepend_tlv(msg, dst);
	if (!done) {
		count(KMESH_C_METADATA_FAILED);
		return SK_DROP;
	}
	dst->seq = tp->write_seq;
	dst->state |= KMESH_DST_SENT;
	count(KMESH_C_METADATA_SENT);
	return SK_PASS;
}

#endif /* KMESH_METADATA_H */
