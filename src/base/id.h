/* id: 63-bit, positive, time-ordered row ids and their wire form (D28).
 *
 *   bit 62..22  milliseconds since 2024-01-01 UTC (69 years)
 *   bit 21..12  node number (0..1023; leased from the database when there are many daemons)
 *   bit 11..0   sequence within the millisecond
 *
 * The wire form is the typed prefix and 13 digits of Crockford base32: "fil_0E4Z8K1T3M0G2". Ids are no secrets.
 */
#ifndef SD_BASE_ID_H
#define SD_BASE_ID_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/time.h"

enum id_kind {
	ID_NONE,
	ID_TENANT,   /* tnt_ */
	ID_PARTNER,  /* prt_ */
	ID_USER,     /* usr_ */
	ID_GROUP,    /* grp_ */
	ID_SHARE,    /* shr_ */
	ID_FILE,     /* fil_ */
	ID_FOLDER,   /* fld_ */
	ID_VERSION,  /* ver_ */
	ID_CHANGE,   /* chg_ */
	ID_CONFLICT, /* cfl_ */
	ID_DEVICE,   /* dvc_: the row behind a client-chosen device_id */
	ID_UPLOAD,   /* ups_ */
	ID_LINK,     /* lnk_ */
	ID_ACE,      /* ace_ */
	ID_QUOTA,    /* qta_ */
	ID_HOLD,     /* hld_ */
	ID_CONNECTOR,/* cnn_ */
	ID_EVENT,    /* evt_ */
	ID_KIND_COUNT
};

/* A typed id. n == 0 means none. */
struct rid {
	enum id_kind kind;
	int64_t n;
};

/* The generator; safe from any thread; never returns the same id twice, also when the clock steps back. */
struct idgen {
	const struct clock *clock;
	int64_t node;
	_Atomic int64_t last;
};

enum { ID_WIRE_MAX = 4 + 13 };

void idgen_init(struct idgen *g, const struct clock *clock, int64_t node);
int64_t idgen_next(struct idgen *g);
/* What comes is greater than this id, of whatever node it is, also when the clock was set back while no generator ran. */
void idgen_follow(struct idgen *g, int64_t id);
/* Whether the ids so far are of a time that the clock has not reached. */
bool idgen_is_ahead(const struct idgen *g);
/* As an id of the same node would be after so many milliseconds. */
int64_t id_later(int64_t id, int64_t ms);
/* The moment an id was made, to the millisecond. */
int64_t id_time_us(int64_t id);

/* Three letters, without the underscore. */
const char *id_prefix(enum id_kind kind);
void buf_id(struct buf *b, enum id_kind kind, int64_t id);
/* Writes the wire form and a NUL; returns its length. */
size_t id_format(char out[ID_WIRE_MAX + 1], enum id_kind kind, int64_t id);
/* Parses any known prefix; digits in either case. False when malformed, zero or negative. */
bool id_parse(struct str s, struct rid *out);
/* The same, of one kind. */
bool id_parse_kind(struct str s, enum id_kind kind, int64_t *out);

#endif
