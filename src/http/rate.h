/* rate: how many rate units a token, its user and its tenant have used within the last minute, and whether a request may use
 * more (docs/integrate/limits.md).
 *
 * A window slides, and is two numbers: what this minute used, and of the minute before the part that the last 60 seconds still
 * cover, as if it had been used evenly (J. Desgats, "How we built rate limiting capable of scaling to millions of domains",
 * Cloudflare, 2017). What is refused is not counted, so somebody who asks too often is answered at the permitted rate.
 *
 * The memory is fixed: per dimension a table of sets of eight windows. When a set is full, the window that counts least makes
 * room for one that begins to count: its count begins again at nothing, while who uses much stays counted. So where more
 * principals than the table holds use something within two windows, those who use least may get more than their limit; of a user
 * with that many tokens the user's limit holds, of a tenant with that many users the tenant's. Who is refused displaces nobody. (To
 * give the newcomer the count of the one that it displaces would give nothing away, but let those who fill the table shut others out.)
 * Only authenticated principals get there, and where a key stands hangs on the process's secret (base/map.h). The counts are this
 * process's own and do not outlive it.
 *
 * Time is an argument, monotonic; one that goes back is taken for the latest that a window saw. Thread-safe.
 */
#ifndef SD_HTTP_RATE_H
#define SD_HTTP_RATE_H

#include <stdbool.h>
#include <stdint.h>

enum rate_dimension { RATE_TOKEN, RATE_USER, RATE_TENANT, RATE_DIMENSIONS };

enum { RATE_UNITS_MAX = 1 << 30, RATE_WINDOW_MAX_S = 3600 };

struct rate_limits {
	int64_t units[RATE_DIMENSIONS]; /* a window, at most RATE_UNITS_MAX; 0: no limit */
	int64_t window_s;               /* 1 to RATE_WINDOW_MAX_S */
};

struct rates;

/* NULL when nothing is limited. */
struct rates *rates_new(const struct rate_limits *limits);
void rates_free(struct rates *r);
/* "token", "user" or "tenant". */
const char *rate_dimension_name(enum rate_dimension d);

/* What a request may do, and what its answer says of it. */
struct rate_verdict {
	bool refused;                  /* and nothing was counted */
	enum rate_dimension dimension; /* which refuses longest, or else has least left */
	int64_t limit, left;           /* of this dimension, in units */
	int64_t wait_us;               /* refused: until the units are free, if nobody uses more meanwhile */
	int64_t reset_us;              /* until nothing counts any more of what was used so far */
	bool first;                    /* refused for the first time within this minute: worth a line in the log */
};

enum rate_kind {
	RATE_ASKED, /* before the work: there must be room for the units (for all of the limit, if they are more) */
	RATE_FOUND, /* of work that turns out larger: they may exceed the limit, unless it is exceeded already */
};

/* Counts units, 0 or more, in all three dimensions or in none. keys: of the token, the user and the tenant. */
void rate_charge(struct rates *r, const uint64_t keys[RATE_DIMENSIONS], int64_t units, enum rate_kind kind, int64_t now_us,
                 struct rate_verdict *out);

#endif
