#include "base/id.h"

static const int64_t EPOCH_MS = INT64_C(1704067200000); /* 2024-01-01 */

static const char prefixes[ID_KIND_COUNT][4] = {"",    "tnt", "prt", "usr", "grp", "shr", "fil", "fld", "ver", "chg",
                                                "cfl", "dvc", "ups", "lnk", "ace", "qta", "hld", "cnn", "evt"};
static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void idgen_init(struct idgen *g, const struct clock *clock, int64_t node)
{
	must(node >= 0 && node < 1024);
	g->clock = clock;
	g->node = node;
	atomic_init(&g->last, 0);
}

int64_t idgen_next(struct idgen *g)
{
	/* "last" counts milliseconds and sequence together (ms << 12 | seq), so a full millisecond runs into the next
	 * one, and a clock that steps back keeps counting from where it was. */
	int64_t ms = clock_now(g->clock) / 1000 - EPOCH_MS;
	int64_t fresh = (ms > 0 ? ms : 0) << 12;
	int64_t last = atomic_load(&g->last), next;
	do
		next = fresh > last ? fresh : last + 1;
	while (!atomic_compare_exchange_weak(&g->last, &last, next));
	int64_t id = (next >> 12) << 22 | g->node << 12 | (next & 0xfff);
	return id ? id : 1;
}

void idgen_follow(struct idgen *g, int64_t id)
{
	int64_t least = id >> 22 << 12 | 0xfff, last = atomic_load(&g->last);
	while (last < least && !atomic_compare_exchange_weak(&g->last, &last, least))
		;
}

bool idgen_is_ahead(const struct idgen *g)
{
	return atomic_load(&g->last) >> 12 > clock_now(g->clock) / 1000 - EPOCH_MS;
}

int64_t id_later(int64_t id, int64_t ms)
{
	return id + (ms << 22);
}

int64_t id_time_us(int64_t id)
{
	return ((id >> 22) + EPOCH_MS) * 1000;
}

const char *id_prefix(enum id_kind kind)
{
	must(kind > ID_NONE && kind < ID_KIND_COUNT);
	return prefixes[kind];
}

size_t id_format(char out[ID_WIRE_MAX + 1], enum id_kind kind, int64_t id)
{
	must(kind > ID_NONE && kind < ID_KIND_COUNT);
	memcpy(out, prefixes[kind], 3);
	out[3] = '_';
	uint64_t v = (uint64_t)id;
	for (int i = 12; i >= 0; i--, v >>= 5)
		out[4 + i] = digits[v & 31];
	out[ID_WIRE_MAX] = 0;
	return ID_WIRE_MAX;
}

void buf_id(struct buf *b, enum id_kind kind, int64_t id)
{
	buf_reserve(b, ID_WIRE_MAX + 1);
	b->n += id_format(b->p + b->n, kind, id);
}

static int digit_value(char c)
{
	if (c >= 'a' && c <= 'z')
		c = (char)(c - 32);
	for (int i = 0; i < 32; i++)
		if (digits[i] == c)
			return i;
	return -1;
}

bool id_parse(struct str s, struct rid *out)
{
	if (s.n < 5 || s.n > ID_WIRE_MAX || s.p[3] != '_')
		return false;
	for (int k = 1; k < ID_KIND_COUNT; k++) {
		if (memcmp(s.p, prefixes[k], 3) != 0)
			continue;
		uint64_t v = 0;
		for (size_t i = 4; i < s.n; i++) {
			int d = digit_value(s.p[i]);
			if (d < 0 || v >> 58)
				return false;
			v = v << 5 | (uint64_t)d;
		}
		if (v == 0 || v > INT64_MAX)
			return false;
		*out = (struct rid){(enum id_kind)k, (int64_t)v};
		return true;
	}
	return false;
}

bool id_parse_kind(struct str s, enum id_kind kind, int64_t *out)
{
	struct rid id;
	if (!id_parse(s, &id) || id.kind != kind)
		return false;
	*out = id.n;
	return true;
}
