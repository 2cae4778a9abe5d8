/* Parts of node_call that the copy of a file shares. */
#ifndef SD_DRIVE_NODE_CALL_PRIV_H
#define SD_DRIVE_NODE_CALL_PRIV_H

#include "base/buf.h"
#include "drive/node_call.h"

/* For the digest of a request (D4): a number; a text, told from none. */
void hash_i64(struct buf *b, int64_t v);
void hash_str(struct buf *b, struct str s);
struct sha256 node_place_hash(const struct node_place *in);
/* E_INVALID when no target is named. */
int node_place_check_target(struct ctx *ctx, const struct node_place *in);

#endif
