/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few fields of the kernel's own structures that the programs read. Only
 * names count: the loader finds each field's place in the running kernel's BTF
 * (CO-RE), so one object serves every kernel from 6.1 on. And the few constants
 * that the kernel's user headers keep to libc.
 */
#ifndef KMESH_KERNEL_H
#define KMESH_KERNEL_H

#include <linux/types.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_cookie {
	__s64 counter;
};

struct sock_common {
	unsigned char skc_ipv6only : 1;
	struct sock_cookie skc_cookie;
};

struct net_device {
	int ifindex;
};

struct dst_entry {
	struct net_device *dev;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	struct dst_entry *sk_dst_cache; /* the route */
	struct socket *sk_socket;       /* what a process holds; none yet while in a backlog */
	int sk_write_pending;           /* senders that wait for the connection */
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_fastopen_request;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	struct tcp_fastopen_request *fastopen_req; /* MSG_FASTOPEN under way */
	__u32 write_seq;                           /* end of what was queued */
	__u32 snd_una;                             /* first byte not acknowledged */
	__u8 fastopen_connect : 1;                 /* TCP_FASTOPEN_CONNECT */
};

/* a half-open connection */
struct request_sock {
	struct sock_common __req_common;
};

struct inet_request_sock {
	struct request_sock req;
};

struct tcp_request_sock {
	struct inet_request_sock req;
};

#pragma clang attribute pop

/* The loopback interface has this index in every network namespace. */
#define LOOPBACK_IFINDEX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1

#endif /* KMESH_KERNEL_H */
