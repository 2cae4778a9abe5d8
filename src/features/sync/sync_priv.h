/* sync_priv: what the handlers of this folder share. */
#ifndef SD_FEATURES_SYNC_PRIV_H
#define SD_FEATURES_SYNC_PRIV_H

#include "http/handler.h"

/* Ids of versions, separated by commas, at most LIMIT_CHUNK_SOURCES, in ctx's arena. */
int sync_sources(struct ctx *ctx, struct str list, const int64_t **ids, size_t *n);

/* A body that is made piece by piece. */
struct piece_source {
	struct body_source source;
	int (*next)(struct piece_source *self, struct buf *piece); /* appends the next piece; nothing at the end */
	void (*fini)(struct piece_source *self);                   /* of what belongs to the maker */
	struct buf piece;
	size_t sent; /* of it */
};

/* The reply's body. length: -1 when it is not known. fini is called once, whatever becomes of it. */
void piece_source_reply(struct piece_source *s, int64_t length, int (*next)(struct piece_source *self, struct buf *piece),
                        void (*fini)(struct piece_source *self), struct reply *out);

#endif
