/* thin: which old versions of a file are kept.
 *
 * Hours, days and weeks are counted from 1970-01-01 UTC, so that they lie within each other. By its age a version belongs to a
 * tier: all are kept; one an hour; one a day; one a week (policy.h). It goes when a newer version of the file lies in the same
 * hour, day or week, whatever tier that one is of; or when it is older than any are kept. So what is left does not depend on
 * when and how often one thinned: to thin twice is to thin once, and what has gone would go at any later time.
 *
 * Beside the rule, the job keeps the present version, and those that an open conflict names. Staged versions have a rule of
 * their own. Numbers stay as they were given. The log tells nothing of it. Chunks that nothing names any more are the
 * collector's, which spares them long enough for requests under way (chunk.h, chunks/marks.h).
 *
 * A version from the future says that the clock is wrong now or was then: then none of the file goes.
 */
#ifndef SD_DRIVE_THIN_H
#define SD_DRIVE_THIN_H

#include "drive/policy.h"

enum {
	THIN_PERIOD_S = 3600,
	THIN_ROUND_S = 300,
	THIN_PAGE = 4000,     /* versions looked at in one step */
	THIN_PAGES = 500,     /* of those a round: 48 million versions a day */
	THIN_TX_VERSIONS = 500, /* removed in one transaction */
};

/* keep[i]: the version made at times_us[i] is kept; of equal times the later number, which is the greater i, counts as newer. */
void thin(const struct policy *p, int64_t now_us, const int64_t *times_us, size_t n, bool *keep);

#endif
