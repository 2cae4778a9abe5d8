/* content: a file's bytes as a reply, for every feature that serves them. */
#ifndef SD_FEATURES_CONTENT_H
#define SD_FEATURES_CONTENT_H

#include "http/handler.h"

/* version 0: the head. Honours ranges and validators (http/download.h); the ETag is the content's SHA-256. */
int content_answer(struct ctx *ctx, const struct request *req, int64_t file_id, int64_t version, bool include_deleted,
                   struct reply *out);
/* By the version's id; also a staged one, for its maker. */
int content_answer_version(struct ctx *ctx, const struct request *req, int64_t file_id, int64_t version_id,
                           bool include_deleted, struct reply *out);

#endif
