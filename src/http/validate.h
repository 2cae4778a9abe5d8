/* validate: the runtime of the generated readers and argument parsers (api/generate.py).
 *
 * A check collects every failing field of one request in FastAPI's shape, bounded, and turns them into one E_INVALID.
 * Values come as JSON (bodies) or as text (path, query, form); each take_ function accepts both. What it yields lives
 * in the request's arena. A take_ function returns true when it has set *out, false for null and for a failure.
 */
#ifndef SD_HTTP_VALIDATE_H
#define SD_HTTP_VALIDATE_H

#include "base/ctx.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/json.h"

/* Where a value stands; the chain lives on the stack. name == NULL: an array index. */
struct loc {
	const struct loc *up;
	const char *name;
	size_t index;
};

struct check {
	struct ctx *ctx;
	struct buf items; /* the JSON array so far, without its closing bracket */
	size_t n;         /* failures, also those above the bound */
	struct str first; /* sentence of the first failure */
	int err;          /* a fault that is not a 422: E_NOT_FOUND outranks everything */
};

enum rule_flag {
	RULE_REQUIRED = 1, /* null is a failure */
	RULE_SECRET = 2,   /* never echoed in a failure */
	RULE_TEXT = 4,     /* integers: a decimal string is accepted */
	RULE_PATH = 8,     /* a malformed id is E_NOT_FOUND */
};

struct rule {
	int64_t min, max;        /* integers: value; strings: characters; arrays: items */
	int64_t max_bytes;       /* strings: bytes; 0: no bound of its own */
	uint32_t kinds;          /* ids: 1 << kind of each accepted kind */
	uint32_t flags;
	int err;                 /* what a malformed value means instead of a 422; 0: a 422 */
	const struct str *names; /* enums: names[i] is the value i + 1 */
	size_t n_names;
	const char *word;        /* ids: this word is accepted and reads as 0 */
};

/* A value as it came. */
struct given {
	struct json_object *json; /* when !is_text; NULL is null */
	struct str text;          /* when is_text; STR_NULL is absent */
	bool is_text;
};

static inline struct given given_json(struct json_object *v)
{
	return (struct given){.json = v};
}

static inline struct given given_text(struct str s)
{
	return (struct given){.text = s, .is_text = true};
}

void check_init(struct check *c, struct ctx *ctx);
/* 0, or the fault, recorded in the ctx. Frees what the check holds; call it exactly once. */
int check_end(struct check *c);
void check_fail(struct check *c, const struct loc *at, struct given input, const char *type, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void check_missing(struct check *c, const struct loc *up, const char *name);
/* A form field that came before, be it under another of its names. */
void check_twice(struct check *c, const struct loc *up, struct str name);

bool take_str(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct str *out);
bool take_i64(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out);
bool take_bool(struct check *c, const struct loc *at, const struct rule *r, struct given g, bool *out);
/* RFC 3339 -> microseconds since the epoch. */
bool take_time(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out);
/* 64 hex digits. */
bool take_sha256(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct sha256 *out);
bool take_id(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out);
bool take_rid(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct rid *out);
/* 1 and up: the position in the rule's names. */
bool take_enum(struct check *c, const struct loc *at, const struct rule *r, struct given g, int *out);
/* An object or array, written back as JSON. */
bool take_raw(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct str *out);
/* True when v is an object; null is a failure only under RULE_REQUIRED. */
bool take_object(struct check *c, const struct loc *at, const struct rule *r, struct json_object *v);
/* True when v is an array whose length the rule allows. */
bool take_array(struct check *c, const struct loc *at, const struct rule *r, struct json_object *v, size_t *n);
/* Parses a request body. True when there is a document to read; an absent one is a failure when required. */
bool take_body(struct check *c, struct str body, bool required, struct json_object **out);

/* Writers' primitives: quoted value or null. */
void put_id(struct buf *b, enum id_kind kind, int64_t id);
void put_time(struct buf *b, int64_t us);
void put_time_us(struct buf *b, int64_t us);
void put_sha256(struct buf *b, const struct sha256 *h);

static inline void put_rid(struct buf *b, struct rid id)
{
	put_id(b, id.kind, id.n);
}

/* Raw JSON; STR_NULL is null. */
static inline void put_raw(struct buf *b, struct str s)
{
	buf_str(b, s.p && s.n ? s : STR("null"));
}

/* compat.data_mirror (D26): object-valued sync answers carry themselves once more under "data". */
extern bool api_data_mirror;
/* The object that begins at from and ends at the end of b gets a member "data" with a copy of itself. */
void api_mirror(struct buf *b, size_t from);

#endif
