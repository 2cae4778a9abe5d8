/* carry: what export and import ask of the drive. They speak to a local folder as clients do (client/root.h), whose header has a
 * node of its own, so nothing of drive/node.h shows here. */
#ifndef SD_BIN_CARRY_H
#define SD_BIN_CARRY_H

#include "bin/server.h"
#include "drive/principal.h"
#include "drive/tree_read.h"

/* A ctx, with an arena of its own, that acts as the account of --user; without one, as an administrator of the tenant. */
int carry_as(struct runtime *rt, const struct args *args, struct arena *a, struct principal *who, struct ctx *out);
/* A share by name or id ("shr_..."), among those that the principal sees. E_CONFLICT: several bear the name. */
int carry_share(struct ctx *ctx, struct str name, int64_t *id);

/* One version of a file, from its beginning to its end: fn is given windows of it. E_CORRUPT: its size or SHA-256 is not that of
 * the version. The file may be in the trash by now. */
typedef int carry_fn(void *arg, const void *p, size_t n);
int carry_out(struct ctx *ctx, int64_t file_id, int64_t number, carry_fn *fn, void *arg);

struct carry_put {
	int64_t share_id, folder_id; /* a new file: where, and its name */
	struct str name;
	int64_t replace_id, base_version_id; /* or the next version of one */
	bool keep_both;                      /* as a file beside it instead */
	const struct content *content;
	int64_t mtime_us;
	bool executable;
};
int carry_put(struct ctx *ctx, const struct carry_put *in);
int carry_folder(struct ctx *ctx, int64_t share_id, int64_t parent_id, struct str name, int64_t *id);
/* E_NAME_INVALID. */
int carry_name(struct ctx *ctx, struct str name);
/* The key that ingest_begin wants. */
int carry_key(struct ctx *ctx, uint8_t key[32]);

/* "scaidrived: PATH: SENTENCE" on standard error, below whatever progress stands there. */
void carry_tell(struct progress *p, struct str path, struct str sentence);
/* Tells why one thing stays behind, and clears ctx. err when there is no point in going on, else 0. */
int carry_failed(struct progress *p, struct str path, struct ctx *ctx, int err);

#endif
