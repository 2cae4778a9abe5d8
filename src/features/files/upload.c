/* upload: POST /files. A multipart body is fed, as it comes, into an ingest; nothing of it is held in memory.
 *
 * Fields may come before or behind the part "file". What is known when the part begins is checked at once, so that a
 * refusal does not cost the client its bytes; all is checked again in the transaction that makes the version. A small body
 * has been sent by then, and is spared the first check.
 */
#include "base/limits.h"
#include "drive/policy.h"
#include "features/files/gunzip.h"
#include "features/wire.h"
#include "http/handler.h"
#include "http/multipart.h"

enum { FIELDS_MAX = 24, FIELD_BYTES_MAX = 4096, FORM_BYTES_MAX = 1 << 20, /* all but the file */
        SHARED_SYNC_MAX = 256 << 10, CHECKED_FROM = 64 << 10 };

_Static_assert((int)CHECKED_FROM <= (int)POLICY_FILE_BYTES_MIN, "a small body is below any limit of a tenant");

enum where { IN_NOTHING, IN_FIELD, IN_FILE };

struct upload {
	struct body_sink sink;
	struct ctx *ctx;
	struct multipart *form;
	enum where where;
	struct http_header fields[FIELDS_MAX];
	size_t n_fields;
	struct str field; /* the name of the one being read */
	struct buf value;
	int64_t body_bytes; /* declared, or -1 */
	int64_t max_bytes;  /* of the file */
	bool has_file;
	struct str filename, mime;
	int64_t file_bytes;
	struct ingest *ingest;
	struct content *content;
	struct gunzip *gunzip; /* the part came with Content-Encoding gzip */
	char begin[MIME_SNIFF_BYTES];
	size_t n_begin;
	/* the end, in two halves where the server can wait for the commit without a thread */
	bool writing;
	int err; /* of the first half */
	struct version_put in;
	struct version_result result;
	struct file_put put;
};

static bool is_generic(struct str mime)
{
	return mime.n == 0 || str_ieq(mime, STR("application/octet-stream")) ||
	       str_ieq(mime, STR("application/x-www-form-urlencoded"));
}

/* Fit to be told in a header again, and as long as the field mime_type may be. */
static bool is_media_type(struct str mime)
{
	bool plain = mime.n <= 255 && str_chr(mime, '/') > 0;
	for (size_t i = 0; plain && i < mime.n; i++)
		plain = (uint8_t)mime.p[i] >= 0x20 && (uint8_t)mime.p[i] < 0x7f;
	return plain;
}

/* RFC 7578 4.2: path information in a file name is not to be used. */
static struct str base_name(struct str filename)
{
	return str_skip(filename, (size_t)(str_rchr(filename, '/') + 1));
}

static void put_from_form(const struct upload *u, const struct FileUploadForm *form, struct version_put *put)
{
	*put = (struct version_put){
	    .share_id = form->share_id,
	    .folder_id = form->folder_id,
	    .name = form->name.p || form->replace_file_id ? form->name : u->filename,
	    .replace_file_id = form->replace_file_id,
	    .base_version_id = form->base_version_id,
	    .strategy = wire_strategy(form->conflict_resolution),
	    .staged = form->staged,
	    .content = u->content,
	    .mime_type = form->mime_type.p ? form->mime_type : u->mime,
	    .has_mtime = form->has_mtime,
	    .mtime_us = form->mtime,
	    .has_executable = form->has_executable,
	    .executable = form->executable,
	    .device_id = form->device_id,
	    .mime_by_content = u->file_bytes ? mime_by_content(str_n(u->begin, u->n_begin)) : STR_NULL,
	};
	if (u->gunzip)
		put->has_decompressed = gunzip_length(u->gunzip, &put->decompressed_bytes);
}

static int too_large(const struct upload *u)
{
	return ctx_fail(u->ctx, E_TOO_LARGE, "One request carries a file of at most %lld bytes; use a resumable upload above it",
	                (long long)u->max_bytes);
}

/* The body is so small that it has been sent by now, and below any tenant's limit. */
static bool is_small(const struct upload *u)
{
	return u->body_bytes >= 0 && u->body_bytes < CHECKED_FROM;
}

static int file_begins(struct upload *u, const struct multipart_part *part)
{
	struct ctx *ctx = u->ctx;
	if (u->has_file)
		return ctx_invalid(ctx, "body", STR("file"), "value_error", "one file a request");
	u->has_file = true;
	u->filename = arena_str(ctx->arena, base_name(part->filename));
	bool usable = !is_generic(part->content_type) && is_media_type(part->content_type);
	u->mime = usable ? arena_str(ctx->arena, part->content_type) : STR_NULL;
	if (str_ieq(part->content_encoding, STR("gzip")) || str_ieq(part->content_encoding, STR("x-gzip")))
		u->gunzip = gunzip_new(LIMIT_INFLATED_FREE, LIMIT_INFLATED_BYTES);
	struct FileUploadForm form;
	int err = read_form_FileUploadForm(ctx, u->fields, u->n_fields, &form);
	if (err)
		return err;
	uint8_t key[32];
	if (!is_small(u) && (form.share_id || form.folder_id || form.replace_file_id)) {
		struct version_put put;
		put_from_form(u, &form, &put);
		err = drive_file_put_check(ctx, &put, -1, key);
	} else {
		err = drive_chunk_key(ctx, key);
	}
	return err ? err : ingest_begin(ctx->drive->store, ctx->tenant_id, key, u->body_bytes, &u->ingest);
}

static int on_part(void *arg, const struct multipart_part *part)
{
	struct upload *u = arg;
	if (str_eq(part->name, STR("file"))) {
		u->where = IN_FILE;
		return file_begins(u, part);
	}
	if (u->n_fields == FIELDS_MAX)
		return ctx_fail(u->ctx, E_BAD_REQUEST, "The form has more than %d fields", FIELDS_MAX);
	u->where = IN_FIELD;
	u->field = arena_str(u->ctx->arena, part->name);
	buf_clear(&u->value);
	return 0;
}

static int on_data(void *arg, const void *p, size_t n)
{
	struct upload *u = arg;
	if (u->where == IN_FIELD) {
		if (u->value.n + n > FIELD_BYTES_MAX)
			return ctx_invalid(u->ctx, "body", u->field, "string_too_long", "a field has at most %d bytes", FIELD_BYTES_MAX);
		buf_put(&u->value, p, n);
		return 0;
	}
	u->file_bytes += (int64_t)n;
	if (u->file_bytes > u->max_bytes)
		return too_large(u);
	if (u->n_begin < sizeof u->begin) {
		size_t k = n < sizeof u->begin - u->n_begin ? n : sizeof u->begin - u->n_begin;
		memcpy(u->begin + u->n_begin, p, k);
		u->n_begin += k;
	}
	if (u->gunzip)
		gunzip_feed(u->gunzip, p, n);
	return ingest_feed(u->ingest, p, n);
}

static int on_part_end(void *arg)
{
	struct upload *u = arg;
	if (u->where == IN_FIELD)
		u->fields[u->n_fields++] = (struct http_header){u->field, arena_str(u->ctx->arena, buf_as_str(&u->value))};
	u->where = IN_NOTHING;
	return 0;
}

static int upload_feed(struct body_sink *sink, struct ctx *ctx, const void *p, size_t n)
{
	(void)ctx;
	return multipart_feed(((struct upload *)sink)->form, p, n);
}

static int checksum_differs(struct ctx *ctx)
{
	return ctx_fail(ctx, E_CHECKSUM, "The content that arrived does not have the checksum_sha256 that was sent with it");
}

static void write_answer(const struct version_result *r, struct reply *out)
{
	struct FileUploaded u;
	wire_uploaded(r, &u);
	write_FileUploaded(&out->body, &u);
}

/* Everything but the transaction. */
static int finish_content(struct upload *u)
{
	struct ctx *ctx = u->ctx;
	struct FileUploadForm form;
	int err = multipart_end(u->form);
	if (!err)
		err = read_form_FileUploadForm(ctx, u->fields, u->n_fields, &form);
	if (err)
		return err;
	if (!u->has_file)
		return ctx_invalid(ctx, "body", STR("file"), "missing", "Field required");
	if (!form.share_id && !form.folder_id && !form.replace_file_id)
		return ctx_invalid(ctx, "body", STR("share_id"), "missing", "Field required");
	struct ingest *ingest = u->ingest;
	u->ingest = NULL;
	/* a small file is synced by the writer, once for all who wait for it; they must not wait for the bytes of a large one */
	err = (u->file_bytes <= SHARED_SYNC_MAX ? ingest_close : ingest_finish)(ingest, &u->content);
	if (err)
		return err;
	if (form.has_checksum_sha256 && !sha256_eq(&form.checksum_sha256, &u->content->sha256))
		return checksum_differs(ctx);
	put_from_form(u, &form, &u->in);
	return content_index_ahead(u->content, ctx->tenant_id);
}

static bool upload_ready(struct body_sink *sink, void (*wake)(void *arg), void *arg)
{
	struct upload *u = (struct upload *)sink;
	u->err = finish_content(u);
	u->writing = true;
	if (u->err)
		return true;
	drive_file_put_begin(&u->put, u->ctx, &u->in, &u->result, wake, arg); /* u may be gone already */
	return false;
}

static int upload_end(struct body_sink *sink, struct ctx *ctx, struct reply *out)
{
	struct upload *u = (struct upload *)sink;
	int err = u->writing ? u->err : finish_content(u);
	if (!err)
		err = u->writing ? drive_file_put_end(&u->put) : drive_file_put(ctx, &u->in, &u->result);
	if (!err)
		write_answer(&u->result, out);
	return err;
}

static void upload_close(struct body_sink *sink)
{
	struct upload *u = (struct upload *)sink;
	multipart_free(u->form);
	if (u->ingest)
		ingest_abort(u->ingest);
	if (u->content)
		content_free(u->content);
	gunzip_free(u->gunzip);
	buf_fini(&u->value);
}

int file_upload(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	static const struct multipart_events events = {on_part, on_data, on_part_end};
	struct upload *u = arena_new(ctx->arena, struct upload);
	u->sink = (struct body_sink){.feed = upload_feed, .ready = upload_ready, .end = upload_end, .close = upload_close};
	u->ctx = ctx;
	if (!str_to_i64(request_header(req, STR("Content-Length")), &u->body_bytes) || u->body_bytes < 0)
		u->body_bytes = -1;
	u->max_bytes = ctx->drive->file_max_bytes;
	int err = is_small(u) ? 0 : drive_file_max(ctx, &u->max_bytes);
	if (!err && u->body_bytes > u->max_bytes + FORM_BYTES_MAX)
		err = too_large(u);
	if (!err)
		err = multipart_new(ctx, request_header(req, STR("Content-Type")), &events, u, &u->form);
	if (!err)
		*out = &u->sink;
	return err;
}
