/* json: reading through json-c with our limits, and the few primitives that the generated writers stand on.
 *
 * Input is UTF-8 checked, at most LIMIT_JSON_DEPTH deep, integers exact in 64 bits. Output is appended to a buf;
 * bytes that are not UTF-8 are written as U+FFFD, so our output always parses.
 */
#ifndef SD_BASE_JSON_H
#define SD_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"

struct json_object; /* json-c's node; NULL is JSON null */

/* Parses one whole document. NULL on success, else why not (a static sentence). *out is freed with json_free. */
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

#endif
