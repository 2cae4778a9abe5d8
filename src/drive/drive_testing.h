/* drive_testing: a database, a store, a domain and a few people in a temporary folder, for unit tests and benchmarks.
 *
 * SQLite, or PostgreSQL when a URL is given: then the tests own that database's public schema and empty it first.
 */
#ifndef SD_DRIVE_DRIVE_TESTING_H
#define SD_DRIVE_DRIVE_TESTING_H

#include "drive/file.h"
#include "drive/folder.h"
#include "drive/principal.h"
#include "drive/share.h"
#include "drive/snapshot.h"

enum { TESTING_USERS = 4 };

struct testing_clock {
	struct clock clock;
	_Atomic int64_t offset_us; /* added to the system's wall clock */
};

struct testing {
	char dir[64];
	struct testing_clock clock;
	struct disk *disk;
	struct db *db;
	struct store *store;
	struct idgen ids;
	struct drive drive;
	int64_t tenant_id, other_tenant_id;
	int64_t group_id;                       /* user 3 is its only member */
	struct principal users[TESTING_USERS];  /* of the tenant; users[0] is its administrator */
	struct principal stranger;              /* of the other tenant */
};

/* pg_url NULL: SQLite. Aborts when anything fails. */
void testing_open(struct testing *t, const char *pg_url);
/* The same with packs on a disk of the caller's, which testing_close frees. */
void testing_open_on(struct testing *t, const char *pg_url, struct disk *packs);
/* Closes the store, calls between (may be NULL), and opens it again. */
void testing_restart(struct testing *t, void (*between)(void *arg), void *arg);
void testing_close(struct testing *t);
/* A context for one of the people; the arena is the caller's. */
struct ctx testing_ctx(struct testing *t, struct arena *a, const struct principal *who);
/* Content made of these bytes; content_free. */
struct content *testing_content(struct testing *t, int64_t tenant_id, struct str bytes);
/* A share of ctx's principal; a folder (parent_id 0: the root); a file with bytes; the next version of a file. */
int64_t testing_share(struct ctx *ctx, const char *name);
int testing_folder(struct ctx *ctx, int64_t share_id, int64_t parent_id, const char *name, struct node *out);
int testing_file(struct testing *t, struct ctx *ctx, int64_t share_id, int64_t folder_id, const char *name,
                 struct str bytes, struct node *out);
int testing_edit(struct testing *t, struct ctx *ctx, int64_t file_id, int64_t base_version_id,
                 enum resolve_strategy strategy, struct str bytes, struct version_result *out);
/* A statement on the whole database; one integer of a query. */
void testing_exec(struct testing *t, const char *sql, const struct dbv *args, size_t n_args);
int64_t testing_i64(struct testing *t, const char *sql);

#endif
