#include "drive/thin.h"

#include <stdlib.h>

#include "base/must.h"

#define HOUR_US SECONDS_US(3600)

/* The length of the span of which one version is kept at this age; 0: all are kept; -1: none is. */
static int64_t span_us(const struct policy *p, int64_t age_us)
{
	static const struct {
		enum policy_key key;
		int64_t unit_us, span_us;
	} tiers[] = {
	    {POLICY_ALL_HOURS, HOUR_US, 0},
	    {POLICY_HOURLY_DAYS, 24 * HOUR_US, HOUR_US},
	    {POLICY_DAILY_DAYS, 24 * HOUR_US, 24 * HOUR_US},
	};
	int64_t last = p->values[POLICY_VERSION_DAYS];
	if (last != POLICY_FOREVER && age_us > last * 24 * HOUR_US)
		return -1;
	for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
		int64_t to = p->values[tiers[i].key];
		if (to == POLICY_FOREVER || age_us <= to * tiers[i].unit_us)
			return tiers[i].span_us;
	}
	return 7 * 24 * HOUR_US;
}

/* Rounded down, also before 1970. */
static int64_t bucket(int64_t t, int64_t span)
{
	return t / span - (t % span < 0);
}

struct moment {
	int64_t us;
	size_t i;
};

static int newest_first(const void *a, const void *b)
{
	const struct moment *x = a, *y = b;
	return x->us != y->us ? (x->us < y->us ? 1 : -1) : (x->i < y->i) - (x->i > y->i);
}

void thin(const struct policy *p, int64_t now_us, const int64_t *times_us, size_t n, bool *keep)
{
	struct moment *order = calloc(n + 1, sizeof *order);
	must(order != NULL);
	for (size_t i = 0; i < n; i++)
		order[i] = (struct moment){times_us[i], i};
	qsort(order, n, sizeof *order, newest_first);
	bool doubtful = n && order[0].us > now_us;
	for (size_t k = 0; k < n; k++) {
		int64_t span = doubtful ? 0 : span_us(p, now_us - order[k].us);
		keep[order[k].i] = span == 0 || (span > 0 && (k == 0 || bucket(order[k].us, span) != bucket(order[k - 1].us, span)));
	}
	free(order);
}
