/* remote: the server's API as the client uses it, over an http_client (the network's seam).
 *
 * A bad answer is an error, never an empty list: what is not the JSON object that was asked for, lacks a field that a
 * decision rests on, or ends early, is E_UPSTREAM. HTTP errors become the E_* of their wire code, else of their status.
 */
#ifndef SD_CLIENT_REMOTE_H
#define SD_CLIENT_REMOTE_H

#include "base/ctx.h"
#include "chunks/chunker.h"
#include "chunks/frame.h"
#include "io/http_client.h"
#include "reconcile/tree.h"

/* Where tokens come from (session.h). */
struct remote_session {
	/* The token to use, in ctx->arena. refused: the server just refused this one (STR_NULL: none), another is wanted. */
	int (*token)(struct remote_session *self, struct ctx *ctx, struct str refused, struct str *out);
};

/* What is done when the server asks for patience (patience.h). */
struct remote_patience {
	/* Before each call, and after one that was answered 429, which is then made again: waits as long as the server asked
	 * (asked_s; 0: this call was not asked, but another one may have been). From any thread. E_CANCELLED. */
	int (*wait)(struct remote_patience *self, struct ctx *ctx, int asked_s);
};

struct remote {
	struct http_client *http;
	struct remote_session *session; /* NULL: token is all there is */
	struct remote_patience *patience; /* NULL: 429 is an error at once */
	struct str token;               /* bearer; STR_NULL before login */
	struct str device_id;           /* of this device */
};

/* What signing in yields. */
struct remote_grant {
	struct str access_token, refresh_token; /* refresh_token STR_NULL: the login cannot be renewed */
	int64_t expires_in_s;                   /* 0: not said */
};

/* Server ids are numbers here; kind says which prefix they bear on the wire. */
struct remote_share {
	struct str id, name; /* id in wire form */
};

enum remote_change_kind { CHANGE_PUT, CHANGE_DELETE };

struct remote_change {
	enum remote_change_kind kind;
	struct node_facts facts; /* DELETE: id and kind alone */
	bool created;            /* the entry is the node's first: a folder's descendants have entries of their own, unless: */
	bool subtree;            /* descendants came along without entries of their own */
	struct node_cause cause; /* which entry, when, by whom (the user's id) */
};

struct remote_page {
	struct remote_change *changes;
	size_t n;
	int64_t cursor;
	bool has_more;
};

/* One metadata change for apply. */
enum remote_verb { REMOTE_MAKE_FOLDER, REMOTE_MOVE, REMOTE_RENAME, REMOTE_DELETE };

struct remote_edit {
	enum remote_verb verb;
	enum node_kind kind;
	int64_t id;              /* MOVE, RENAME, DELETE */
	int64_t parent;          /* MAKE_FOLDER, MOVE, RENAME; TREE_ROOT for the share's root */
	struct str name;         /* the same */
	int64_t base_version_id; /* DELETE of a file */
	struct str op_id;
	/* Filled by remote_apply. */
	int err;                 /* 0: done */
	struct str detail;
	bool in_part;            /* the server's side stands, wholly or in part */
	int64_t entry;           /* its number in the log; 0: none was written */
	int64_t new_id;
	int64_t new_parent;
	struct str new_name;     /* STR_NULL: as asked */
};

struct remote_upload {
	int64_t replace_id;      /* 0: a new file */
	int64_t parent;          /* new */
	struct str name;         /* new */
	int64_t base_version_id; /* replace */
	struct str strategy;     /* replace; STR_NULL: none */
	int64_t size_bytes;
	struct sha256 checksum;
	int64_t mtime_us;
	bool executable;
	struct http_source *content; /* size_bytes bytes */
	/* Filled. */
	struct node_facts stored; /* the file as the server has it now */
	int64_t entry;            /* as below; remote_upload leaves it alone */
	bool conflict;            /* the upload is not the head */
	bool is_deleted;
};

/* A file whose content goes by its chunks. */
struct remote_file {
	int64_t id;              /* 0: a new file */
	int64_t parent;          /* new */
	struct str name;         /* new */
	int64_t base_version_id; /* of an existing one; also where its chunks may come from */
	int64_t twin_version_id; /* 0, or this version's content, and no chunks */
	const struct sha256 *chunks;
	size_t n_chunks;
	int64_t size_bytes;
	struct sha256 checksum;
	int64_t mtime_us;
	bool executable;
	struct str op_id;
	/* Filled by remote_put_files. */
	int err;                 /* 0: done */
	struct str detail;
	struct node_facts stored; /* as the server has it now; version_id is this content's */
	int64_t entry;            /* its number in the log; 0: none was written */
	bool conflict;            /* this content is not the head */
};

/* A chunk to be sent. */
struct remote_chunk {
	struct sha256 hash;
	const void *bytes; /* the chunk, or by flags (chunks/frame.h) what stands for it */
	uint32_t length;   /* of the bytes */
	uint32_t flags;
};

/* Chunks [first, first + count) of a version. */
struct remote_run {
	uint32_t first, count;
};

/* A chunk to be fetched. */
struct remote_want {
	struct sha256 hash;
	struct remote_run base; /* chunks of a version that we have, which resemble it; count 0: none */
};

int remote_login(struct ctx *ctx, struct remote *r, struct str email, struct str password, struct remote_grant *out);
/* The next pair. E_UNAUTHENTICATED, E_SUSPENDED: the login has ended. */
int remote_refresh(struct ctx *ctx, struct http_client *http, struct str refresh_token, struct remote_grant *out);
/* All shares the caller sees. */
int remote_shares(struct ctx *ctx, struct remote *r, struct remote_share **out, size_t *n);
int remote_register(struct ctx *ctx, struct remote *r, struct str device_name);
int remote_heartbeat(struct ctx *ctx, struct remote *r);
/* When the server was restored from a backup: versions with greater ids, and entries of the log with greater numbers, came after it. */
struct remote_restore {
	int64_t cursor, version_id;
};
struct remote_snapshot {
	struct node_facts *nodes; /* every live one of the share, or below the folder, in the server's order */
	size_t n;
	int64_t cursor; /* to replay from */
	struct remote_restore *restores; /* oldest first */
	size_t n_restores;
};
/* folder_id: TREE_ROOT for the share. */
int remote_snapshot(struct ctx *ctx, struct remote *r, struct str share, int64_t folder_id, struct remote_snapshot *out);
/* E_CURSOR_INVALID: start again from the snapshot. */
int remote_changes(struct ctx *ctx, struct remote *r, struct str share, int64_t cursor, struct remote_page *out);
/* Executes up to LIMIT_APPLY_ALL_OR_NONE edits in order; each gets its own err. An error of the whole call (E_VERSION_STALE:
 * nothing was applied) is returned. */
int remote_apply(struct ctx *ctx, struct remote *r, struct str share, int64_t base_cursor, struct remote_edit *edits,
                 size_t n);
int remote_upload(struct ctx *ctx, struct remote *r, struct str share, struct remote_upload *up);
/* Sets the executable bit of a file. */
int remote_set_mode(struct ctx *ctx, struct remote *r, int64_t file_id, bool executable);
/* Streams the version into sink. E_UPSTREAM when the length is not the expected one. */
int remote_download(struct ctx *ctx, struct remote *r, int64_t file_id, int64_t version_id, int64_t size_bytes,
                    struct http_sink *sink);
/* ---- in bulk (remote_bulk.c) ---- */

/* How the server cuts. E_UPSTREAM: by an algorithm that we do not know. */
int remote_chunking(struct ctx *ctx, struct remote *r, struct str share, struct gear *gear);
/* missing[i]: chunk i must be sent. n <= LIMIT_CHUNKS_REQUEST, n_sources <= LIMIT_CHUNK_SOURCES. */
int remote_missing(struct ctx *ctx, struct remote *r, struct str share, const struct remote_chunk *chunks, size_t n,
                   const int64_t *sources, size_t n_sources, bool *missing);
/* Sends those that are wanted. When it returns they are durable there. source: the version that patches count from (0: there
 * are none). */
int remote_send_chunks(struct ctx *ctx, struct remote *r, struct str share, int64_t source, const struct remote_chunk *chunks, size_t n,
                       const bool *wanted);
/* New files and versions whose chunks were sent. Each gets its own err. */
int remote_put_files(struct ctx *ctx, struct remote *r, struct str share, struct str strategy, int64_t base_cursor,
                     struct remote_file *files, size_t n);
/* The chunks of whole versions; frames may bear FRAME_ZSTD. Each is told with the number of its version; the frame of length 0 is the last of a
 * version (hash all zeros: it cannot be had). What on_frame returns ends the call. */
typedef int remote_frame_fn(void *arg, size_t i, const struct frame *f);
int remote_fetch(struct ctx *ctx, struct remote *r, struct str share, const int64_t *version_ids, size_t n,
                 remote_frame_fn *on_frame, void *arg);
/* Some chunks of one version: their frames, in this order, then the one that ends it. Frames may bear flags; what FRAME_BASED
 * ones rest on are the wants' chunks of base_version_id. */
int remote_fetch_chunks(struct ctx *ctx, struct remote *r, struct str share, int64_t version_id, int64_t base_version_id,
                        const struct remote_want *wants, size_t n, remote_frame_fn *on_frame, void *arg);

/* ---- large files that changed a little (remote_delta.c); *out is the caller's to give back ---- */

/* The layout of a version (client/layout.h). */
int remote_layout(struct ctx *ctx, struct remote *r, int64_t version_id, struct buf *out);
/* The steps (chunks/steps.h) of a version whose one source is the base. */
int remote_steps(struct ctx *ctx, struct remote *r, int64_t version_id, int64_t base_version_id, struct buf *out);
/* Signatures (chunks/patch.h) of the chunks of runs of a version, 64 MiB of content at most. most: bytes that they can take. */
int remote_signatures(struct ctx *ctx, struct remote *r, struct str share, int64_t version_id, const struct remote_run *runs, size_t n,
                      size_t most, struct buf *out);
/* The file from steps with this one source. up->content is not used. */
int remote_put_steps(struct ctx *ctx, struct remote *r, struct str share, struct remote_upload *up, int64_t source, struct str steps);

/* Tells the server how far this device has come (a courtesy: it shows in status and device lists). */
int remote_advance(struct ctx *ctx, struct remote *r, struct str share, int64_t position);
/* The conflicts of this device in a share (STR_NULL: all) as the server's JSON, checked to be a list. */
int remote_conflicts(struct ctx *ctx, struct remote *r, struct str share, bool include_resolved, struct str *json);

#endif
