/* resolve: the only place with conflict policy. Server and client call the same function (D7).
 *
 * One file, three facts: the base the writer edited on top of, the head the server has now, and what comes in. The
 * outcome says who becomes the head, what is kept, and what is recorded; the caller only carries it out. Clocks decide
 * nothing, no content is ever dropped: whatever is not the head is kept as a version with the next number.
 *
 *   situation                        strategy           head       also
 *   incoming bytes are the head's    any                stays      nothing is recorded
 *   base is the head                 any                incoming   nothing is recorded
 *   base is stale (or not named)     none               -          refused: E_VERSION_STALE, nothing changes
 *                                    LAST_WRITER_WINS   incoming   the old head stays in the history
 *                                    CLIENT_WINS        incoming   the same
 *                                    SERVER_WINS        stays      incoming is kept as a version
 *                                    MANUAL             stays      the same, and an open conflict
 *                                    KEEP_BOTH          stays      the same, and a copy beside
 *   head deleted, edit comes in      none               -          refused
 *                                    LWW, CLIENT, BOTH  incoming   the file leaves the trash: an edit beats a delete
 *                                    SERVER, MANUAL     deleted    incoming is kept as a version (MANUAL: open)
 *   head edited since, delete comes  none               -          refused
 *                                    CLIENT_WINS        deleted    (into the trash, all versions with it)
 *                                    the others         stays      an edit beats a delete (MANUAL: open)
 *   both deleted                     any                deleted    nothing is recorded
 */
#ifndef SD_RECONCILE_RESOLVE_H
#define SD_RECONCILE_RESOLVE_H

#include "base/arena.h"
#include "base/hash.h"

enum resolve_strategy {
	RESOLVE_NONE, /* the writer named no strategy */
	RESOLVE_LAST_WRITER_WINS,
	RESOLVE_KEEP_BOTH,
	RESOLVE_SERVER_WINS,
	RESOLVE_CLIENT_WINS,
	RESOLVE_MANUAL,
};

/* One state of the file's content. */
struct resolve_side {
	bool deleted;           /* there is none: in the trash, or to be deleted; the rest is ignored */
	int64_t version_id;     /* 0: unknown, or not stored yet */
	bool has_checksum;
	struct sha256 checksum; /* of the bytes, when has_checksum */
};

enum resolve_head {
	RESOLVE_HEAD_STAYS,    /* the head is not touched (a deleted one stays deleted) */
	RESOLVE_HEAD_INCOMING, /* incoming becomes the head */
	RESOLVE_HEAD_DELETED,  /* the file goes to the trash */
};

struct resolve_outcome {
	bool refused;        /* stale base and no strategy: E_VERSION_STALE; nothing else is set */
	enum resolve_head head;
	bool restore;        /* the file leaves the trash, before incoming becomes its head */
	bool keep_incoming;  /* incoming is not the head: keep it as a version with the next number */
	bool copy;           /* and make a file of it beside, named by resolve_copy_name() */
	bool conflict;       /* record a conflict and report it to the writer */
	bool open;           /* the recorded conflict waits for a human; else it is recorded as settled by the strategy */
};

/* base_version_id: what the writer edited on top of; 0: not named, which is never current. */
struct resolve_outcome resolve(enum resolve_strategy strategy, int64_t base_version_id, const struct resolve_side *head,
                               const struct resolve_side *incoming);

/* "name (conflicted copy DEVICE YYYY-MM-DD).ext", at most 255 bytes; attempt > 1 adds the number before ")".
 * device is cut and made harmless; date is "YYYY-MM-DD". The caller raises attempt while the name is taken. */
struct str resolve_copy_name(struct arena *a, struct str name, struct str device, struct str date, int attempt);

/* "KEEP_BOTH" and so on; "" for RESOLVE_NONE. */
const char *resolve_strategy_name(enum resolve_strategy s);
/* Exact spelling. False when unknown. */
bool resolve_strategy_parse(struct str s, enum resolve_strategy *out);

#endif
