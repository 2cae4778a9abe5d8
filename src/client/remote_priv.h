/* remote_priv: one call and the reading of its answer. */
#ifndef SD_CLIENT_REMOTE_PRIV_H
#define SD_CLIENT_REMOTE_PRIV_H

#include "base/id.h"
#include "base/json.h"
#include "client/remote.h"

int remote_token(struct ctx *ctx, struct remote *r, struct str refused, struct str *out);
/* Does the call with the device's token: once more with a renewed one when it was refused, and again after what the server asks to
 * wait (429). 2xx: *doc (may be NULL to ignore the body) is the parsed answer. */
int remote_call(struct ctx *ctx, struct remote *r, struct http_call *call, struct json_object **doc);
int remote_get(struct ctx *ctx, struct remote *r, struct str path, struct json_object **doc);
int remote_post(struct ctx *ctx, struct remote *r, struct str path, const struct buf *body, struct json_object **doc);
/* The path of a bulk call, in ctx->arena. */
struct str remote_bulk_path(struct ctx *ctx, const char *call, struct str share);
/* E_UPSTREAM with what was wrong with the answer. */
int remote_bad(struct ctx *ctx, const char *what);
/* The error of a refused call. */
int remote_refused(struct ctx *ctx, const struct http_call *call);
/* Reads a node as snapshot, file and change metadata spell it. Strings are copied to the arena. */
int remote_node(struct ctx *ctx, struct json_object *o, enum node_kind kind, int64_t id, struct node_facts *out);
/* The answer to an upload of any kind. */
int remote_read_uploaded(struct ctx *ctx, struct json_object *doc, struct remote_upload *up);
void remote_put_id(struct buf *b, enum node_kind kind, int64_t id);

#endif
