/* json: a reader of JSON (RFC 8259, by yajl) and the few primitives that the generated writers stand on.
 *
 * Input is UTF-8 checked, at most LIMIT_JSON_DEPTH deep and LIMIT_JSON_VALUES values long, integers exact in 64 bits. Of
 * members of one name the last counts. A document is a tree whose members and items stand side by side, so it costs 40
 * bytes a value and its text once more. Output is appended to a buf; bytes that are not UTF-8 are written as U+FFFD, so
 * our output always parses.
 */
#ifndef SD_BASE_JSON_H
#define SD_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_DOUBLE, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* A value; where a pointer to one is passed, NULL is JSON null. */
struct json_object {
	enum json_type type;
	bool flag;                            /* JSON_BOOL */
	union {
		int64_t i;                    /* JSON_INT */
		struct str s;                 /* JSON_STRING; JSON_DOUBLE: as it was written. A NUL stands behind it */
		struct {
			size_t n;
			union {
				struct json_object *items;   /* JSON_ARRAY; those of JSON_NULL too */
				struct json_member *members; /* JSON_OBJECT */
			};
		};
	};
};
struct json_member {
	struct str key; /* a NUL stands behind it */
	struct json_object value;
};
static inline struct json_object *json_member_value(struct json_member *m)
{
	return m->value.type == JSON_NULL ? NULL : &m->value;
}

/* Parses one whole document. NULL on success, else why not (until this thread's next call). *out, NULL for null, is freed with
 * json_free. */
const char *json_parse(struct str text, struct json_object **out);
void json_free(struct json_object **doc);
#define AUTO_JSON __attribute__((cleanup(json_free))) struct json_object

/* Accessors that fail softly: a missing key or another type gives false / STR_NULL / dflt. */
struct json_object *json_get(struct json_object *obj, const char *key);
struct str json_str(struct json_object *obj, const char *key); /* borrowed from the document */
int64_t json_i64(struct json_object *obj, const char *key, int64_t dflt);
bool json_flag(struct json_object *obj, const char *key, bool dflt);
bool json_is_list(struct json_object *v);
/* Array length, 0 for anything else. */
size_t json_len(struct json_object *array);
struct json_object *json_at(struct json_object *array, size_t i);
struct str json_value_str(struct json_object *v);
int64_t json_value_i64(struct json_object *v, int64_t dflt);

/* "..." with escapes, or null for STR_NULL. */
void json_put_str(struct buf *b, struct str s);
/* ,"key": or "key": depending on *first, which becomes false. key is a literal that needs no escapes. */
void json_put_key(struct buf *b, bool *first, struct str key);
void json_put_bool(struct buf *b, bool v);
void json_put_value(struct buf *b, const struct json_object *v);

#endif
