/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a policy set says of a connection: rows of who, source, destination and
 * port, then the bits that all four satisfy. bpf/src/authz/image.rs reads the
 * tables in the same steps; what they mean stands in docs/authorization.md.
 *
 * What is beyond a map is not there: the verdict is void, and that denies.
 */
#ifndef KMESH_AUTHZ_SET_H
#define KMESH_AUTHZ_SET_H

#include "count.h"
#include "dialled.h"
#include "kernel.h"
#include "lookup.h"

/* Steps of a search: a set has at most 2^24 words. */
#define KMESH_AUTH_STEPS 24
/* A row that is nowhere: what is read of it is not there. */
#define NO_ROW 0xffffffffU

/* A connection that somebody wants to make. */
struct attempt {
	struct kmesh_connection key; /* as it came */
	__u64 pod;                   /* word of map_of_manager */
	__u32 who;                   /* the source's identity; 0 = none */
	bool own;                    /* the source is the pod itself */
};

/* The rows of a connection's values, and what the bits come to. */
struct scan {
	__u32 rows[4]; /* who, source, destination, port: first words */
	__u32 rule_ends;
	__u32 group_ends;
	__u32 chunks; /* the set's first chunk */
	__u32 pair;   /* the first pair of chunks of this action */
	__u64 in_rule;
	__u64 in_group;
	__u32 hit;
	__u32 broken; /* a place beyond a map */
};

/* A word of a set. It is immutable, or read in this one load. */
static __always_inline bool word_at(__u32 index, __u64 *word)
{
	const __u64 *found = bpf_map_lookup_elem(&kmesh_auth_word, &index);

	if (!found)
		return false;
	*word = word_of(found);
	return true;
}

static __always_inline const struct kmesh_auth_chunk *chunk_at(__u32 index)
{
	return bpf_map_lookup_elem(&kmesh_auth_bits, &index);
}

/* The row of the last of `count` ranges that begins at or before `value`; the
 * first one begins at zero. */
__noinline __u32 range_row(__u32 at, __u32 count, __u32 value)
{
	__u64 word;

#pragma clang loop unroll(disable)
	for (int i = 0; i < KMESH_AUTH_STEPS && count > 1; i++) {
		__u32 half = count / 2;

		if (!word_at(at + half, &word))
			return NO_ROW;
		if (word >> KMESH_AUTH_VALUE_SHIFT <= value)
			at += half;
		count -= half;
	}
	return word_at(at, &word) ? (__u32)word : NO_ROW;
}

/* The same for IPv6: ranges of three words. */
__noinline __u32 wide_row(__u32 at, __u32 count, __u64 high, __u64 low)
{
	__u64 first, second;

#pragma clang loop unroll(disable)
	for (int i = 0; i < KMESH_AUTH_STEPS && count > 1; i++) {
		__u32 half = count / 2;

		if (!word_at(at + 3 * half, &first) || !word_at(at + 3 * half + 1, &second))
			return NO_ROW;
		if (first < high || (first == high && second <= low))
			at += 3 * half;
		count -= half;
	}
	return word_at(at + 2, &first) ? (__u32)first : NO_ROW;
}

static __always_inline __u32 address_row(const struct kmesh_auth_set *set,
					 const struct kmesh_auth_run *v4,
					 const struct kmesh_auth_run *v6, const __be32 addr[4])
{
	__u64 high = (__u64)bpf_ntohl(addr[0]) << 32 | bpf_ntohl(addr[1]);
	__u64 low = (__u64)bpf_ntohl(addr[2]) << 32 | bpf_ntohl(addr[3]);

	if (is_v4(addr))
		return range_row(set->words + v4->at, v4->count, (__u32)low);
	return wide_row(set->words + v6->at, v6->count, high, low);
}

/* The chunks of a row's pair; false beyond the map. */
static __always_inline bool pair_at(struct scan *scan, __u32 row, __u32 pair, __u64 *ids)
{
	if (word_at(row + pair, ids))
		return true;
	scan->broken = 1;
	return false;
}

/* Four chunks, of which none is the zero chunk: a bit that all have is a term
 * that holds. Answers 1 to end the loop. */
static __always_inline long direct_chunk(struct scan *scan, __u32 who, __u32 source,
					 __u32 destination, __u32 port)
{
	const struct kmesh_auth_chunk *a, *b, *c, *d;
	__u64 any = 0;

	if (!who || !source || !destination || !port)
		return 0;
	a = chunk_at(scan->chunks + who);
	b = chunk_at(scan->chunks + source);
	c = chunk_at(scan->chunks + destination);
	d = chunk_at(scan->chunks + port);
	if (!a || !b || !c || !d) {
		scan->broken = 1;
		return 1;
	}
	for (int i = 0; i < KMESH_AUTH_CHUNK_WORDS; i++)
		any |= a->bits[i] & b->bits[i] & c->bits[i] & d->bits[i];
	scan->hit = !!any;
	return scan->hit;
}

/* Terms that decide alone: any bit is a hit. */
static long direct_pair(__u32 i, struct scan *scan)
{
	__u32 pair = scan->pair + i;
	__u64 a, b, c, d;

	if (!pair_at(scan, scan->rows[0], pair, &a) || !pair_at(scan, scan->rows[1], pair, &b) ||
	    !pair_at(scan, scan->rows[2], pair, &c) || !pair_at(scan, scan->rows[3], pair, &d))
		return 1;
	return direct_chunk(scan, (__u32)a, (__u32)b, (__u32)c, (__u32)d) ||
	       direct_chunk(scan, a >> 32, b >> 32, c >> 32, d >> 32);
}

/* At each bit of `ends`: whether any bit since the end before it is set. Adding
 * ones below each end carries into it if so; `carry` takes that from word to word. */
static __always_inline __u64 gather(__u64 bits, __u64 ends, __u64 *carry)
{
	__u64 low = bits & ~ends;
	__u64 sum = low + ~ends;
	__u64 over = sum < low;
	__u64 whole = sum + *carry;

	*carry = over | (whole < sum);
	return (whole | bits) & ends;
}

static __always_inline bool rules_chunk(struct scan *scan, const __u32 ids[6])
{
	const struct kmesh_auth_chunk *a = chunk_at(scan->chunks + ids[0]);
	const struct kmesh_auth_chunk *b = chunk_at(scan->chunks + ids[1]);
	const struct kmesh_auth_chunk *c = chunk_at(scan->chunks + ids[2]);
	const struct kmesh_auth_chunk *d = chunk_at(scan->chunks + ids[3]);
	const struct kmesh_auth_chunk *rules = chunk_at(scan->chunks + ids[4]);
	const struct kmesh_auth_chunk *groups = chunk_at(scan->chunks + ids[5]);
	__u64 in_rule = scan->in_rule;
	__u64 in_group = scan->in_group;
	__u64 any = 0;

	if (!a || !b || !c || !d || !rules || !groups)
		return false;
	for (int i = 0; i < KMESH_AUTH_CHUNK_WORDS; i++) {
		__u64 bits = a->bits[i] & b->bits[i] & c->bits[i] & d->bits[i];
		__u64 held = gather(bits, rules->bits[i], &in_rule);
		__u64 failed = gather(rules->bits[i] & ~held, groups->bits[i], &in_group);

		any |= groups->bits[i] & ~failed;
	}
	scan->in_rule = in_rule;
	scan->in_group = in_group;
	scan->hit |= !!any;
	return true;
}

/* Conjunctions: a group whose rules all have a bit is a hit. No chunk is left
 * out, because rules and groups reach over words. */
static long rules_pair(__u32 i, struct scan *scan)
{
	__u32 pair = scan->pair + i;
	__u32 even[6], odd[6];
	__u64 ids;

	for (int at = 0; at < 6; at++) {
		__u32 row = at < 4    ? scan->rows[at & 3]
			    : at == 4 ? scan->rule_ends
				      : scan->group_ends;

		if (!pair_at(scan, row, pair, &ids))
			return 1;
		even[at] = (__u32)ids;
		odd[at] = ids >> 32;
	}
	if (!rules_chunk(scan, even) || !rules_chunk(scan, odd)) {
		scan->broken = 1;
		return 1;
	}
	return 0;
}

/* Whether anything of an action matches, whose bits are those of the pairs from
 * `from` to `direct`, and of conjunctions up to `end`. Verified by itself, as the
 * searches are: so the verifier's work adds up and does not multiply. */
__noinline __u32 scan_action(const struct scan *rows, __u32 from, __u32 direct, __u32 end)
{
	struct scan scan;

	if (!rows)
		return NO_ROW;
	scan = *rows;
	scan.hit = 0;
	scan.broken = 0;
	if (direct > from) {
		scan.pair = from;
		bpf_loop(direct - from, direct_pair, &scan, 0);
	}
	if (end > direct && !scan.hit) {
		scan.pair = direct;
		scan.in_rule = 0;
		scan.in_group = 0;
		bpf_loop(end - direct, rules_pair, &scan, 0);
	}
	return scan.broken ? NO_ROW : scan.hit;
}

static __always_inline bool matches(const struct kmesh_auth_set *set, struct scan *scan,
				    const int action)
{
	__u32 from = action ? set->ends[2 * action - 1] : 0;
	__u32 hit = scan_action(scan, from, set->ends[2 * action], set->ends[2 * action + 1]);

	if (hit == NO_ROW)
		scan->broken = 1;
	return hit;
}

/* Counts what the dry-run policies would have made of a decision. */
static __always_inline bool dry_run_differs(const struct kmesh_auth_set *set, struct scan *scan,
					    bool denied, bool allowed, bool passes)
{
	__u64 flags = set->flags & (KMESH_AUTH_ALLOWS | KMESH_AUTH_DRY_ALLOWS);
	bool would;

	if (set->ends[2 * KMESH_AUTH_ACTIONS - 1] == set->ends[2 * KMESH_AUTH_ALLOW + 1] &&
	    !(flags & KMESH_AUTH_DRY_ALLOWS))
		return false;
	would = !denied && !matches(set, scan, KMESH_AUTH_DRY_DENY) &&
		(!flags || allowed || matches(set, scan, KMESH_AUTH_DRY_ALLOW));
	return would != passes;
}

/* The row of who the source is. */
static __always_inline __u32 who_row(const struct kmesh_auth_set *set, __u32 who)
{
	__u64 word;

	if (!who)
		return set->words + set->nobody;
	if (who >= set->identities.count ||
	    !word_at(set->words + set->identities.at + who, &word) ||
	    !(word & KMESH_AUTH_CLASSIFIED))
		return NO_ROW;
	return set->words + (__u32)word;
}

/* A row's first word; of one that is nowhere, the verdict is void. */
static __always_inline __u32 row_place(const struct kmesh_auth_set *set, __u32 row,
				       struct scan *scan)
{
	if (row == NO_ROW)
		scan->broken = 1;
	return set->words + row;
}

/* What the set says of the connection: KMESH_C_AUTH_ALLOWED, DENIED,
 * UNCLASSIFIED or STALE. */
static __always_inline __u32 judge(const struct kmesh_auth_set *set, const struct attempt *attempt,
				   bool *dry_run)
{
	struct scan scan = { .chunks = set->chunks };
	bool denied, allowed, passes;
	__u32 row;

	scan.rows[0] = who_row(set, attempt->who);
	if (scan.rows[0] == NO_ROW)
		return KMESH_C_AUTH_UNCLASSIFIED;
	row = address_row(set, &set->source4, &set->source6, attempt->key.source);
	scan.rows[1] = row_place(set, row, &scan);
	row = address_row(set, &set->destination4, &set->destination6, attempt->key.destination);
	scan.rows[2] = row_place(set, row, &scan);
	row = range_row(set->words + set->port.at, set->port.count, bpf_ntohs(attempt->key.port));
	scan.rows[3] = row_place(set, row, &scan);
	scan.rule_ends = set->words + set->rule_ends;
	scan.group_ends = set->words + set->group_ends;
	denied = matches(set, &scan, KMESH_AUTH_DENY);
	allowed = !denied && matches(set, &scan, KMESH_AUTH_ALLOW);
	passes = !denied && (allowed || !(set->flags & KMESH_AUTH_ALLOWS));
	*dry_run = dry_run_differs(set, &scan, denied, allowed, passes);
	if (scan.broken)
		return KMESH_C_AUTH_STALE;
	return passes ? KMESH_C_AUTH_ALLOWED : KMESH_C_AUTH_DENIED;
}

#endif /* KMESH_AUTHZ_SET_H */
