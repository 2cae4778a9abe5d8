/* file: operations on files, one call each; every one opens its own transaction and checks rights there. */
#ifndef SD_DRIVE_FILE_H
#define SD_DRIVE_FILE_H

#include "drive/node_call.h"
#include "drive/version.h"

/* POST /files and the end of every upload: see version.h. A repeated Idempotency-Key yields the file it made. */
int drive_file_put(struct ctx *ctx, const struct version_put *in, struct version_result *out);
/* Did a request with this Idempotency-Key make it already? Then *out is that, as drive_file_put would say. Saves making its content. */
int drive_file_put_again(struct ctx *ctx, const struct version_put *in, bool *found, struct version_result *out);
/* The same without a thread that sleeps meanwhile (drive_write_begin). in, its content and out are the caller's to keep. The
 * writer syncs the content, once for all who wait for it: for small ones, since the others wait for its bytes. */
struct file_put {
	const struct version_put *in;
	struct version_result *out;
	struct drive_write write;
};
void drive_file_put_begin(struct file_put *p, struct ctx *ctx, const struct version_put *in, struct version_result *out,
                          void (*done)(void *arg), void *done_arg);
int drive_file_put_end(struct file_put *p);
/* Before the bytes come: is the caller allowed, is the name free, does size_bytes (-1: unknown) fit? The same faults as
 * drive_file_put; the answer may be outdated when the bytes are there. key (or NULL) gets what drive_chunk_key gives. */
int drive_file_put_check(struct ctx *ctx, const struct version_put *in, int64_t size_bytes, uint8_t key[32]);
/* Largest file that one multipart request may bring: what the tenant's policy has (drive/policy.h), and the server at most. */
int drive_file_max(struct ctx *ctx, int64_t *bytes);
/* The key that ingest_begin wants. */
int drive_chunk_key(struct ctx *ctx, uint8_t key[32]);

/* READ on the share: its live files with this content, at most FILE_MATCHES_MAX. */
enum { FILE_MATCHES_MAX = 100 };
int drive_file_find(struct ctx *ctx, int64_t share_id, const struct sha256 *sha256, struct node **out, size_t *n);

/* READ on the file, CREATE on the target. E_INVALID without a target. */
int drive_file_copy(struct ctx *ctx, const struct node_place *in, struct node *out);
struct file_versions {
	struct version *items; /* newest first, without staged ones */
	size_t n;
	int64_t total;
};
enum { FILE_VERSIONS_MAX = 1000 };
/* limit 0: FILE_VERSIONS_MAX, which is the most. */
int drive_file_versions(struct ctx *ctx, int64_t id, bool include_deleted, int64_t limit, int64_t offset,
                        struct file_versions *out);
/* WRITE. out->version is the head afterwards: that number's content as a new version, or the head itself when it has
 * those bytes already (VERSION_UNCHANGED). */
int drive_file_version_restore(struct ctx *ctx, int64_t id, int64_t number, struct version_result *out);

/* Content for reading; the reader is the caller's to close (file_content_close). */
struct file_content {
	struct node node;
	struct version version;
	struct content_reader *reader;
};
/* number 0: the head. READ. E_NOT_FOUND, E_GONE, E_CORRUPT. */
int file_content_open(struct ctx *ctx, int64_t id, int64_t number, bool include_deleted, struct file_content *out);
void file_content_close(struct file_content *c);

/* "text/plain" ... by the extension; "application/octet-stream" when it is not known. */
struct str mime_by_name(struct str name);
/* By its first bytes (MIME_SNIFF_BYTES are enough); STR_NULL when they say nothing. */
enum { MIME_SNIFF_BYTES = 16 };
struct str mime_by_content(struct str begin);

#endif
