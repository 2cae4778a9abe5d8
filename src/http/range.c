#include "http/range.h"

/* Digits; what has more of them than fit lies beyond any content. False: anything else. */
static bool position(struct str digits, uint64_t *out)
{
	if (str_to_u64(digits, out))
		return true;
	for (size_t i = 0; i < digits.n; i++)
		if (digits.p[i] < '0' || digits.p[i] > '9')
			return false;
	*out = UINT64_MAX;
	return digits.n > 0;
}

/* One element of a byte-range-set. False: malformed. *out has length 0 when it lies outside the content. */
static bool parse_one(struct str item, int64_t size, struct range *out)
{
	struct str rest = str_trim(item);
	struct str first = str_cut(&rest, '-');
	uint64_t a, b;
	*out = (struct range){0, 0};
	if (!rest.p || (!first.n && !rest.n))
		return false;
	if (!first.n) { /* the last b bytes */
		if (!position(rest, &b))
			return false;
		int64_t n = b > (uint64_t)size ? size : (int64_t)b;
		*out = (struct range){size - n, n};
		return true;
	}
	if (!position(first, &a) || (rest.n && !position(rest, &b)))
		return false;
	if (!rest.n || b >= (uint64_t)size) {
		if (rest.n && b < a)
			return false;
		b = size > 0 ? (uint64_t)size - 1 : 0;
	} else if (b < a) {
		return false;
	}
	if (a < (uint64_t)size)
		*out = (struct range){(int64_t)a, (int64_t)(b - a) + 1};
	return true;
}

/* Ranges that cover a byte twice only multiply our work (RFC 9110, 14.2, allows to ignore them). */
static bool overlap(const struct ranges *r)
{
	for (size_t i = 0; i < r->n; i++)
		for (size_t j = i + 1; j < r->n; j++)
			if (r->r[i].first < r->r[j].first + r->r[j].length && r->r[j].first < r->r[i].first + r->r[i].length)
				return true;
	return false;
}

enum range_result range_parse(struct str header, int64_t size_bytes, struct ranges *out)
{
	out->n = 0;
	header = str_trim(header);
	if (header.n < 6 || !str_ieq(str_head(header, 6), STR("bytes=")))
		return RANGE_WHOLE;
	struct str rest = str_skip(header, 6);
	size_t seen = 0;
	while (rest.p) {
		struct range one;
		struct str item = str_trim(str_cut(&rest, ','));
		if (!item.n) /* empty list elements are allowed */
			continue;
		if (!parse_one(item, size_bytes, &one) || ++seen > RANGE_MAX) {
			out->n = 0;
			return RANGE_WHOLE;
		}
		if (one.length > 0)
			out->r[out->n++] = one;
	}
	if (!seen)
		return RANGE_WHOLE;
	if (!out->n)
		return RANGE_UNSATISFIABLE;
	if (overlap(out)) {
		out->n = 0;
		return RANGE_WHOLE;
	}
	return RANGE_PARTIAL;
}

enum range_result range_query(struct str start, struct str end, int64_t size_bytes, struct ranges *out)
{
	int64_t a = 0, b = size_bytes - 1;
	out->n = 0;
	if (!start.p && !end.p)
		return RANGE_WHOLE;
	if ((start.p && !str_to_i64(start, &a)) || (end.p && !str_to_i64(end, &b)) || a < 0 || b < a || a >= size_bytes)
		return RANGE_UNSATISFIABLE;
	if (b >= size_bytes)
		b = size_bytes - 1;
	out->n = 1;
	out->r[0] = (struct range){a, b - a + 1};
	return RANGE_PARTIAL;
}

static bool same_tag(struct str a, struct str b, bool weak)
{
	bool wa = str_starts(a, STR("W/")), wb = str_starts(b, STR("W/"));
	if (!weak && (wa || wb))
		return false;
	return str_eq(str_skip(a, wa ? 2 : 0), str_skip(b, wb ? 2 : 0));
}

bool etag_listed(struct str list, struct str etag, bool weak)
{
	list = str_trim(list);
	if (str_eq(list, STR("*")))
		return true;
	while (list.n) { /* a comma may stand inside the quotes of a tag */
		size_t i = 0;
		bool quoted = false;
		for (; i < list.n && (quoted || list.p[i] != ','); i++)
			quoted ^= list.p[i] == '"';
		if (etag.n && same_tag(str_trim(str_head(list, i)), etag, weak))
			return true;
		list = str_skip(list, i + 1);
	}
	return false;
}

bool if_range_holds(struct str if_range, struct str etag)
{
	if_range = str_trim(if_range);
	return !if_range.n || (etag.n && same_tag(if_range, etag, false));
}
