/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * THE layout: every struct, word, map name, default limit and counter that the
 * programs and user space share. Its Rust twin is bpf/src/layout/; the test
 * `layout_matches_btf` compares the two through this file's BTF and fails on
 * any difference.
 *
 * The one rule of shared memory: a program trusts only single aligned 8-byte
 * loads of what may change; records are immutable while reachable; what was
 * reachable is reused only after a grace period. So everything that changes is
 * one u64 ("word"); a hash value carries a tag of its key, because an element
 * of a live hash is recycled at once and a lookup may return another key's
 * value.
 *
 * It refuses: bit-fields (their order is the compiler's), `packed`, implicit
 * padding, and any width that is not fixed.
 */
#ifndef KMESH_LAYOUT_H
#define KMESH_LAYOUT_H

#include <linux/types.h>

#define KMESH_MAGIC 0x6873656d6bULL /* "kmesh", little-endian */
#define KMESH_LAYOUT_VERSION 1

/* ---- default limits (max_entries); each has an option that raises it ---- */
#define KMESH_MAX_FRONTENDS 131072
#define KMESH_MAX_SERVICES 32768
#define KMESH_MAX_ENDPOINTS 262144
#define KMESH_MAX_BACKENDS 65536
#define KMESH_MAX_NAMES 98304
#define KMESH_MAX_PODS 4096
#define KMESH_MAX_SOCKETS 16384
#define KMESH_MAX_POLICIES 4096
#define KMESH_MAX_AUTH_SETS 512
#define KMESH_MAX_AUTH_WORDS 131072
#define KMESH_MAX_AUTH_CHUNKS 8192
#define KMESH_MAX_CONNECTIONS 16384

/* ---- limits without an option ---- */
#define KMESH_HOST_DIALLED 8192 /* connections that the host opened lately */
#define KMESH_DENIALS 65536     /* bytes of the ring of denials */

/* ---- kmesh_frontend: hash, struct kmesh_frontend_key -> frontend word ---- */

enum kmesh_frontend_kind {
	KMESH_FRONTEND_SERVICE = 0,  /* VIP and port -> kmesh_service index */
	KMESH_FRONTEND_WORKLOAD = 1, /* address, port 0 -> kmesh_backend index */
};

/* 20 bytes, no padding. */
struct kmesh_frontend_key {
	__be32 addr[4]; /* network order; IPv4 as ::ffff:a.b.c.d */
	__be16 port;    /* network order; 0 for KMESH_FRONTEND_WORKLOAD */
	__u16 kind;     /* enum kmesh_frontend_kind, host order */
};

/* frontend word: index [0,32) | tag of the key [32,64) */
#define KMESH_FRONTEND_TAG_SHIFT 32

/* ---- kmesh_service: array -> struct kmesh_service ---- */

/* service word: base [0,28) | count [28,48) | flags [48,64).
 * Slots base .. base+count of kmesh_endpoint are the endpoints in use. Writing
 * this word is the flip, for all VIPs of the service at once. */
#define KMESH_SERVICE_BASE_BITS 28
#define KMESH_SERVICE_COUNT_BITS 20
#define KMESH_SERVICE_COUNT_SHIFT 28
#define KMESH_SERVICE_FLAGS_SHIFT 48

enum kmesh_service_flag {
	KMESH_SERVICE_VALID = 1,       /* the record is in use */
	KMESH_SERVICE_SYNCED = 2,      /* complete: no endpoints means refuse */
	KMESH_SERVICE_WAYPOINT = 4,    /* go by the waypoint word */
	KMESH_SERVICE_PASSTHROUGH = 8, /* leave the destination as it is */
	KMESH_SERVICE_STRICT = 16,     /* locality mode STRICT (for views) */
	KMESH_SERVICE_FAILOVER = 32,   /* locality mode FAILOVER (for views) */
};

enum kmesh_service_kind {
	KMESH_KIND_SERVICE = 0,  /* has frontends */
	KMESH_KIND_WAYPOINT = 1, /* reached by waypoint words only */
};

/* waypoint word: kmesh_service index of a KMESH_KIND_WAYPOINT record [0,32)
 * | flags [32,64); 0 = none. */
#define KMESH_WAYPOINT_FLAGS_SHIFT 32
enum kmesh_waypoint_flag {
	KMESH_WAYPOINT_VALID = 1,
};

/* 32 bytes. One per service, port and family. `word` and `waypoint` are read
 * by the programs; the rest is for user space, under the generation. */
struct kmesh_service {
	__u64 word;
	__u64 waypoint;
	__u32 name;     /* first chunk in kmesh_names: "namespace/hostname" */
	__u16 name_len; /* bytes */
	__u16 port;     /* service port, host order */
	__u32 capacity; /* slots owned from base on */
	__u8 family;    /* 4 or 6: of the VIPs */
	__u8 kind;      /* enum kmesh_service_kind */
	__u16 _pad;
};

/* ---- kmesh_endpoint: array -> endpoint word ----
 * backend index [0,32) | target port, host order [32,48) | flags [48,64) */
#define KMESH_ENDPOINT_PORT_SHIFT 32
#define KMESH_ENDPOINT_FLAGS_SHIFT 48
enum kmesh_endpoint_flag {
	KMESH_ENDPOINT_VALID = 1,
	KMESH_ENDPOINT_V6 = 2, /* use the backend's IPv6 address */
};

/* ---- kmesh_backend: array -> struct kmesh_backend ---- */

/* backend word: IPv4 address, network order [0,32) | flags [32,64) */
#define KMESH_BACKEND_FLAGS_SHIFT 32
enum kmesh_backend_flag {
	KMESH_BACKEND_VALID = 1,       /* in use; cleared when removed (for views) */
	KMESH_BACKEND_V4 = 2,          /* the IPv4 address is set */
	KMESH_BACKEND_V6 = 4,          /* the IPv6 address is set */
	KMESH_BACKEND_WAYPOINT = 8,    /* is a waypoint: its own traffic meets none */
	KMESH_BACKEND_NO_ADDRESS = 16, /* no frontend leads to it: it shares its node's addresses */
};

/* 64 bytes. The addresses never change while the record is reachable; the two
 * waypoint words may (they are words), and so may the identity's number: it lies
 * within one word. */
struct kmesh_backend {
	__u64 word;
	__be32 v6[4];       /* network order; zero without KMESH_BACKEND_V6 */
	__u64 waypoint_v4;  /* waypoint word for clients that dial IPv4 */
	__u64 waypoint_v6;  /* waypoint word for clients that dial IPv6 */
	__u32 name;         /* first chunk in kmesh_names: the workload's uid */
	__u32 identity;     /* first chunk: "trust-domain/ns/N/sa/A" */
	__u16 name_len;     /* bytes */
	__u16 identity_len; /* bytes; 0 = no identity */
	__u32 who;          /* the identity's number in policy sets; 0 = none */
	__u32 policies;     /* first chunk: the policies that name it, a JSON list */
	__u32 policies_len; /* bytes; 0 = none name it */
};

/* ---- kmesh_names: array -> struct kmesh_name ----
 * A name or text is a run of chunks; unused bytes of its last chunk are zero. */
#define KMESH_NAME_CHUNK 64
#define KMESH_NAME_MAX 512 /* bytes of one name: 8 chunks */
struct kmesh_name {
	__u8 bytes[KMESH_NAME_CHUNK];
};

/* ---- map_of_manager: hash, netns cookie (u64) -> manager word ----
 * backend index [0,24) | policy set [24,40) | flags [40,48) | tag [48,64) */
#define KMESH_MANAGER_BACKEND_NONE 0xffffffU
#define KMESH_MANAGER_POLICY_SHIFT 24
#define KMESH_MANAGER_FLAGS_SHIFT 40
#define KMESH_MANAGER_TAG_SHIFT 48
enum kmesh_manager_flag {
	KMESH_MANAGED = 1,
	KMESH_BYPASS = 2,
};
#define KMESH_POLICY_NONE 0      /* no policy applies: everybody may connect */
#define KMESH_POLICY_WAIT 0xffff /* nobody may until the model knows the pod */

/* ---- kmesh_policy: array -> struct kmesh_policy; for user space, under the generation ---- */

enum kmesh_policy_flag {
	KMESH_POLICY_VALID = 1,      /* the record is in use */
	KMESH_POLICY_SUPERSEDED = 2, /* no longer the policy: a set still stands for it */
};

/* 24 bytes. A version of an authorization policy: immutable while it is in use. A
 * changed policy is another record, so that a set says by its records what it was
 * compiled from. */
struct kmesh_policy {
	__u32 flags;    /* enum kmesh_policy_flag */
	__u32 name;     /* first chunk in kmesh_names: "namespace/name" */
	__u32 text;     /* first chunk: the policy as JSON */
	__u32 text_len; /* bytes */
	__u16 name_len; /* bytes */
	__u16 _pad[3];
};

/* ---- authorization: kmesh_auth_set, kmesh_auth_word, kmesh_auth_bits ----
 * docs/authorization.md. All of a set is immutable while a pod's word names it,
 * but for the words of its identities, which are added one by one. Places are
 * relative to the set's own words and chunks. */

/* 512 bits of a row; a set's first chunk is zero. */
#define KMESH_AUTH_CHUNK_WORDS 8
struct kmesh_auth_chunk {
	__u64 bits[KMESH_AUTH_CHUNK_WORDS];
};

/* range word: first value [32,64) | row [0,32); an IPv6 range is three words:
 * upper half, lower half, row. identity word: row [0,32) | classified [32]. row:
 * words of two chunks each, the even one [0,32), the odd one [32,64). */
#define KMESH_AUTH_VALUE_SHIFT 32
#define KMESH_AUTH_CLASSIFIED 0x100000000ULL

struct kmesh_auth_run {
	__u32 at;
	__u32 count; /* ranges, or identities */
};

enum kmesh_auth_action {
	KMESH_AUTH_DENY = 0,
	KMESH_AUTH_ALLOW = 1,
	KMESH_AUTH_DRY_DENY = 2,
	KMESH_AUTH_DRY_ALLOW = 3,
	KMESH_AUTH_ACTIONS = 4,
};

enum kmesh_auth_flag {
	KMESH_AUTH_VALID = 1,
	KMESH_AUTH_ALLOWS = 2,     /* ALLOW policies apply: what none matches is denied */
	KMESH_AUTH_DRY_ALLOWS = 4, /* dry-run ones do */
};

/* 112 bytes. */
struct kmesh_auth_set {
	__u64 flags;  /* enum kmesh_auth_flag */
	__u32 words;  /* the set's first word in kmesh_auth_word */
	__u32 chunks; /* its first chunk in kmesh_auth_bits */
	/* by action: where its bits end that decide alone, then where those of
	 * conjunctions do, in pairs of chunks */
	__u16 ends[2 * KMESH_AUTH_ACTIONS];
	struct kmesh_auth_run source4;
	struct kmesh_auth_run source6;
	struct kmesh_auth_run destination4;
	struct kmesh_auth_run destination6;
	struct kmesh_auth_run port;
	struct kmesh_auth_run identities; /* by number */
	__u32 nobody;                     /* row of a source without identity */
	__u32 rule_ends;                  /* row that marks the last bit of each rule */
	__u32 group_ends;                 /* and of each group of the conjunctions */
	/* room for the set to grow in, for user space */
	__u32 words_room;
	__u32 chunks_room;
	/* what it was compiled from, for user space: first chunk of a JSON list of
	 * indices into kmesh_policy, and its bytes */
	__u32 policies;
	__u32 policies_len;
	__u32 _pad;
};

/* ---- host_dialled: LRU hash, struct kmesh_connection -> dialled word ----
 * Connections opened by sockets of the host's own namespace (probes), and those
 * that a namespace opens to itself. dialled word: tag of the key [0,32) | seconds
 * since boot [32,64) */
#define KMESH_DIALLED_TIME_SHIFT 32
#define KMESH_DIALLED_SECONDS 10 /* so long a dialled connection is known */

/* 48 bytes: a connection as one network namespace knows it; addresses and ports in
 * network order, IPv4 as ::ffff:a.b.c.d. */
struct kmesh_connection {
	__u64 cookie; /* host_dialled: of the namespace that dialled; else of the pod */
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 port;
	__u32 _pad;
};

/* ---- map_of_tuple: hash, struct kmesh_connection -> struct kmesh_live ----
 * Established inbound connections of pods that have a policy set: noted when they
 * are established, gone when they close. An annotation: which there are, the kernel's
 * sockets say. live word: why [0,8) | policy set [16,32) | seconds since boot [32,64) */
#define KMESH_LIVE_SET_SHIFT 16
#define KMESH_LIVE_TIME_SHIFT 32

enum kmesh_live_why {
	KMESH_LIVE_JUDGED = 0, /* by the policies */
	KMESH_LIVE_NOBODY = 1, /* by the policies, its source without identity */
	KMESH_LIVE_LOCAL = 2,  /* exempt: the pod dialled itself */
	KMESH_LIVE_HOST = 3,   /* exempt: the host dialled */
};

struct kmesh_live {
	__u64 socket; /* the socket's cookie */
	__u64 word;
};

/* ---- map_of_auth: hash, struct kmesh_connection -> struct kmesh_revoked ----
 * Live connections that the policies deny by now, until they are ended. revoked
 * word: tag of the key [0,32) | reason [32,40) */
#define KMESH_REVOKED_REASON_SHIFT 32

enum kmesh_revoked_reason {
	KMESH_REVOKED_DENIED = 1,   /* a policy denies it */
	KMESH_REVOKED_NO_ALLOW = 2, /* policies of action ALLOW apply, and none matches */
};

struct kmesh_revoked {
	__u64 socket; /* the socket's cookie */
	__u64 word;
};

/* ---- kmesh_denials: ring buffer of struct kmesh_denial ---- */

/* 64 bytes: a connection that was denied, or would be by dry-run policies. */
struct kmesh_denial {
	__u64 time;   /* CLOCK_MONOTONIC, ns */
	__u64 cookie; /* of the pod's network namespace */
	__be32 source[4];
	__be32 destination[4];
	__u32 who;          /* the source's identity, 0 = none */
	__be16 source_port; /* network order */
	__u16 port;         /* host order */
	__u16 set;          /* policy set */
	__u16 why;          /* enum kmesh_counter */
	__u32 _pad;
};

/* ---- map_of_dst_info: socket storage ---- */

enum kmesh_dst_state {
	KMESH_DST_WANTS_METADATA = 1, /* the first send must carry metadata */
	KMESH_DST_SENT = 2,           /* it has been sent */
	KMESH_DST_IN_MAP = 4,         /* the socket is in map_of_kmesh_socket */
	KMESH_DST_ABORTED = 8,        /* the flow was cut: it could not be sent */
	KMESH_DST_PEERNAME = 16,      /* getpeername answers this address */
	KMESH_DST_DIALLED = 32,       /* noted by connect(), its SYN not yet seen */
};

/* 32 bytes: the destination that the application dialled, and where it was sent. */
struct kmesh_dst {
	__be32 addr[4];     /* network order; IPv4 as ::ffff:a.b.c.d */
	__be16 port;        /* network order */
	__u16 state;        /* enum kmesh_dst_state */
	__u32 seq;          /* TCP sequence number at which the metadata was queued */
	__be32 target;      /* last 4 bytes of the address written instead */
	__be16 target_port; /* network order */
	__u16 _pad;
};

/* ---- kmesh_meta: array of one -> struct kmesh_meta ---- */

enum kmesh_hook {
	KMESH_HOOK_SK_MSG = 0,
	KMESH_HOOK_SOCKOPS = 1,
	KMESH_HOOK_CONNECT4 = 2,
	KMESH_HOOK_CONNECT6 = 3,
	KMESH_HOOK_GETPEERNAME4 = 4,
	KMESH_HOOK_GETPEERNAME6 = 5,
	KMESH_HOOK_SK_LOOKUP = 6, /* one in each pod's network namespace */
	KMESH_HOOK_XDP = 7,       /* one for a pod, while connections of it are to end */
	KMESH_HOOK_MAX = 8,       /* room for more without a new layout */
};

/* Which program stands at a hook, and which build it is of. */
struct kmesh_hook_record {
	__u64 build; /* first 8 bytes of the SHA-256 of its object file */
	__u32 prog_id;
	__u32 _pad;
};

/* 192 bytes. Never read by a program. */
struct kmesh_meta {
	__u64 magic;
	__u32 layout;
	__u32 root;         /* first 4 bytes of the SHA-256 of the root's path */
	__u64 generation;   /* odd while a write is under way */
	__u64 writer_start; /* start time of the last writer, clock ticks since boot */
	__u32 writer_pid;   /* who wrote last */
	/* first index never used so far: what lies at or above it is empty */
	__u32 names_end;
	__u32 backends_end;
	__u32 endpoints_end;
	__u32 services_end;
	__u32 instance; /* device number of the BPF file system of its root */
	__u64 written;  /* when it was last written: seconds since 1970, UTC; 0 = never */
	struct kmesh_hook_record hooks[KMESH_HOOK_MAX];
};

/* ---- kmesh_settings: array -> u64, what the programs read ---- */
enum kmesh_setting {
	KMESH_SETTING_FLAGS = 0,        /* enum kmesh_setting_flag */
	KMESH_SETTING_EXEMPT_PORTS = 1, /* four words of four u16, host order */
	KMESH_SETTING_HOST = 5,         /* netns cookie of the host's own namespace */
	KMESH_SETTINGS = 8,
};
#define KMESH_EXEMPT_PORTS 16 /* ports a waypoint never sees; 0 = unused */
enum kmesh_setting_flag {
	KMESH_SET_PROXY_V2 = 1, /* PROXY protocol v2 instead of the Kmesh TLV */
	KMESH_SET_PEERNAME = 2, /* getpeername answers the address dialled */
	KMESH_SET_POLICIES = 4, /* some pod has a policy set: note what the host dials */
};

/* ---- kmesh_stats: per-CPU array -> u64, indexed by this ---- */
enum kmesh_counter {
	KMESH_C_STEERED = 0,             /* sent to an endpoint of a service */
	KMESH_C_WAYPOINT = 1,            /* sent to a waypoint */
	KMESH_C_WAYPOINT_SELF = 2,       /* from a waypoint: sent to an endpoint */
	KMESH_C_MISS = 3,                /* no such service: passed */
	KMESH_C_BYPASS = 4,              /* pod bypassed: passed */
	KMESH_C_PASSTHROUGH = 5,         /* service mode PASSTHROUGH: passed */
	KMESH_C_UNSYNCED = 6,            /* service never fully synced: passed */
	KMESH_C_REFUSED_EMPTY = 7,       /* no endpoint to use: ECONNREFUSED */
	KMESH_C_REFUSED_FAMILY = 8,      /* IPv4 socket, IPv6 target: refused */
	KMESH_C_REFUSED_WAYPOINT = 9,    /* waypoint has no endpoint: refused */
	KMESH_C_REFUSED_FASTOPEN = 10,   /* Fast Open to a waypoint: EOPNOTSUPP */
	KMESH_C_REFUSED_MPTCP = 11,      /* MPTCP to a waypoint: EOPNOTSUPP */
	KMESH_C_REFUSED_STALE = 12,      /* tables changed under every retry */
	KMESH_C_REFUSED_STORAGE = 13,    /* no room for the original destination */
	KMESH_C_RETRIED = 14,            /* looked up again: element recycled */
	KMESH_C_METADATA_SENT = 15,      /* first send carried the metadata */
	KMESH_C_METADATA_FAILED = 16,    /* it could not be added: send refused */
	KMESH_C_ABORTED_EARLY_DATA = 17, /* payload queued before established */
	KMESH_C_ABORTED_SOCKHASH = 18,   /* map_of_kmesh_socket refused the socket */
	KMESH_C_AUTH_ALLOWED = 19,       /* inbound: the policies let it in */
	KMESH_C_AUTH_DENIED = 20,        /* inbound: they do not: RST */
	KMESH_C_AUTH_NONE = 21,          /* inbound: no policy applies: passed */
	KMESH_C_AUTH_LOCAL = 22,         /* inbound: from the pod itself: passed */
	KMESH_C_AUTH_HOST = 23,          /* inbound: opened by the host: passed */
	KMESH_C_AUTH_WAIT = 24,          /* inbound: pod not known yet: RST */
	KMESH_C_AUTH_UNCLASSIFIED = 25,  /* inbound: identity not in the set: RST */
	KMESH_C_AUTH_STALE = 26,         /* inbound: tables changed under every retry: RST */
	KMESH_C_AUTH_DRY_RUN = 27,       /* inbound: dry-run policies would decide otherwise */
	KMESH_C_AUTH_LOST = 28,          /* denials that found no room in the ring */
	KMESH_C_LIVE_FULL = 29,          /* live connections that found no room in map_of_tuple */
	KMESH_C_MAX = 32,
};

/* ---- tag of a key: what keeps a recycled hash element from being believed ----
 * Over native u32 words; Rust twin: layout::tag32. */
static inline __attribute__((always_inline)) __u32 kmesh_tag32(const __u32 *w, int n)
{
	__u32 h = 0x9e3779b9;

	for (int i = 0; i < n; i++) {
		h ^= w[i];
		h *= 0x85ebca6b;
		h ^= h >> 15;
	}
	return h;
}

_Static_assert(sizeof(struct kmesh_frontend_key) == 20, "kmesh_frontend_key");
_Static_assert(sizeof(struct kmesh_service) == 32, "kmesh_service");
_Static_assert(sizeof(struct kmesh_backend) == 64, "kmesh_backend");
_Static_assert(sizeof(struct kmesh_auth_chunk) == 64, "kmesh_auth_chunk");
_Static_assert(sizeof(struct kmesh_auth_set) == 112, "kmesh_auth_set");
_Static_assert(sizeof(struct kmesh_policy) == 24, "kmesh_policy");
_Static_assert(sizeof(struct kmesh_connection) == 48, "kmesh_connection");
_Static_assert(sizeof(struct kmesh_denial) == 64, "kmesh_denial");
_Static_assert(sizeof(struct kmesh_live) == 16, "kmesh_live");
_Static_assert(sizeof(struct kmesh_revoked) == 16, "kmesh_revoked");
_Static_assert(sizeof(struct kmesh_name) == KMESH_NAME_CHUNK, "kmesh_name");
_Static_assert(sizeof(struct kmesh_dst) == 32, "kmesh_dst");
_Static_assert(sizeof(struct kmesh_meta) == 192, "kmesh_meta");

#endif /* KMESH_LAYOUT_H */
