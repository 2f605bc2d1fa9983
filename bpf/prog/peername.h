/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What getpeername4 and getpeername6 share: the address that a socket dialled. */
#ifndef KMESH_PEERNAME_H
#define KMESH_PEERNAME_H

#include "maps.h"

/* NULL where the socket shall answer its real peer. */
static __always_inline const struct kmesh_dst *dialled_by(struct bpf_sock_addr *ctx)
{
	const struct kmesh_dst *dst = bpf_sk_storage_get(&map_of_dst_info, ctx->sk, NULL, 0);

	return dst && dst->state & KMESH_DST_PEERNAME ? dst : NULL;
}

#endif /* KMESH_PEERNAME_H */
