/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The yardstick: a connect4 program that does nothing but pass. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("cgroup/connect4")
int empty(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return 1;
}

char empty_license[] SEC("license") = "Dual BSD/GPL";
