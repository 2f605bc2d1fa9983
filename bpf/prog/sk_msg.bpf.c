/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sends of the sockets in map_of_kmesh_socket: the first carries the metadata. */
#include "metadata.h"

SEC("sk_msg/sockhash")
int sk_msg(struct sk_msg_md *msg)
{
	return first_send(msg);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
