/* time: microseconds since 1970-01-01 UTC as int64 (negative before), ISO 8601, and the clock seam.
 *
 * Nothing below bin/ calls clock_gettime itself: every module is handed a struct clock, so a simulator can own time.
 * Wall-clock values are labels; they never decide which content survives.
 */
#ifndef SD_BASE_TIME_H
#define SD_BASE_TIME_H

#include "base/buf.h"

struct clock {
	int64_t (*now_us)(const struct clock *);       /* wall clock */
	int64_t (*monotonic_us)(const struct clock *); /* never goes back */
};

extern const struct clock clock_system;

static inline int64_t clock_now(const struct clock *c)
{
	return c->now_us(c);
}

static inline int64_t clock_mono(const struct clock *c)
{
	return c->monotonic_us(c);
}

#define SECONDS_US(s) ((int64_t)(s) * 1000000)
#define MILLIS_US(ms) ((int64_t)(ms) * 1000)

/* "2026-04-23T10:15:00Z": whole seconds, truncated towards the past. */
void buf_time(struct buf *b, int64_t us);
/* The same with ".ffffff" when there is a fraction. */
void buf_time_us(struct buf *b, int64_t us);
/* RFC 3339 date-time ("Z" or an offset, up to 9 fraction digits, extra ones cut). Years 0001 to 9999. */
bool time_parse(struct str s, int64_t *us);
/* "Thu, 23 Apr 2026 10:15:00 GMT" (RFC 9110), written to out with a NUL. */
void time_http(int64_t us, char out[32]);
bool time_http_parse(struct str s, int64_t *us);
/* "2026-04-23" of the UTC day, with a NUL. */
void time_date(int64_t us, char out[11]);

#endif
