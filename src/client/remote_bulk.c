/* The bulk calls (docs/integrate/bulk.md). */
#include "base/limits.h"
#include "base/must.h"
#include "client/remote_priv.h"

struct str remote_bulk_path(struct ctx *ctx, const char *call, struct str share)
{
	struct buf path = {0};
	buf_fmt(&path, "/api/v1/sync/%s?share_id=", call);
	http_escape(&path, share);
	struct str s = arena_str(ctx->arena, buf_as_str(&path));
	buf_fini(&path);
	return s;
}

int remote_chunking(struct ctx *ctx, struct remote *r, struct str share, struct gear *gear)
{
	AUTO_JSON *doc = NULL;
	uint8_t key[32];
	int err = remote_get(ctx, r, remote_bulk_path(ctx, "chunking", share), &doc);
	if (err)
		return err;
	if (!str_eq(json_str(doc, "algorithm"), STR("fastcdc-gear64-1")) ||
	    json_i64(doc, "min_bytes", 0) != CHUNK_MIN_BYTES || json_i64(doc, "avg_bytes", 0) != CHUNK_AVG_BYTES ||
	    json_i64(doc, "max_bytes", 0) != CHUNK_MAX_BYTES || !str_unhex(json_str(doc, "key"), key, sizeof key))
		return remote_bad(ctx, "another way of cutting files than ours");
	gear_init(gear, key);
	return 0;
}

static void put_hash(struct buf *b, const struct sha256 *hash)
{
	char hex[64];
	hex_encode(hash->b, 32, hex);
	buf_char(b, '"');
	buf_put(b, hex, 64);
	buf_char(b, '"');
}

int remote_missing(struct ctx *ctx, struct remote *r, struct str share, const struct remote_chunk *chunks, size_t n,
                   const int64_t *sources, size_t n_sources, bool *missing)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	must(n <= LIMIT_CHUNKS_REQUEST && n_sources <= LIMIT_CHUNK_SOURCES);
	buf_lit(&body, "{\"hashes\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(&body, ',');
		put_hash(&body, &chunks[i].hash);
	}
	buf_lit(&body, "],\"sources\":[");
	for (size_t i = 0; i < n_sources; i++) {
		buf_str(&body, i ? STR(",\"") : STR("\""));
		buf_id(&body, ID_VERSION, sources[i]);
		buf_char(&body, '"');
	}
	buf_lit(&body, "]}");
	int err = remote_post(ctx, r, remote_bulk_path(ctx, "chunks/missing", share), &body, &doc);
	buf_fini(&body);
	if (err)
		return err;
	struct json_object *list = json_get(doc, "missing");
	if (!list)
		return remote_bad(ctx, "no list of missing chunks");
	memset(missing, 0, n * sizeof *missing);
	for (size_t i = 0; i < json_len(list); i++) {
		struct json_object *o = json_at(list, i);
		int64_t at = json_value_i64(o, -1);
		if (at < 0 || (uint64_t)at >= n)
			return remote_bad(ctx, "a missing chunk that was not asked about");
		missing[at] = true;
	}
	return 0;
}

/* ---- sending ---- */

struct chunk_source {
	struct http_source face;
	const struct remote_chunk *chunks;
	const bool *wanted;
	size_t n, at;
	uint8_t head[FRAME_HEAD_BYTES];
	size_t sent; /* bytes of the present frame */
};

static int chunk_source_read(struct http_source *self, void *out, size_t cap, size_t *got)
{
	struct chunk_source *s = (struct chunk_source *)self;
	*got = 0;
	while (*got < cap && s->at < s->n) {
		const struct remote_chunk *c = &s->chunks[s->at];
		if (!s->wanted[s->at] || s->sent == FRAME_HEAD_BYTES + (size_t)c->length) {
			s->at++;
			s->sent = 0;
			continue;
		}
		if (s->sent == 0)
			frame_head(s->head, &c->hash, c->length | c->flags);
		bool head = s->sent < FRAME_HEAD_BYTES;
		const uint8_t *from = head ? s->head + s->sent : (const uint8_t *)c->bytes + (s->sent - FRAME_HEAD_BYTES);
		size_t left = (head ? FRAME_HEAD_BYTES : FRAME_HEAD_BYTES + (size_t)c->length) - s->sent;
		size_t k = left < cap - *got ? left : cap - *got;
		memcpy((char *)out + *got, from, k);
		s->sent += k;
		*got += k;
	}
	return 0;
}

static int chunk_source_rewind(struct http_source *self, struct ctx *ctx)
{
	struct chunk_source *s = (struct chunk_source *)self;
	(void)ctx;
	s->at = s->sent = 0;
	return 0;
}

int remote_send_chunks(struct ctx *ctx, struct remote *r, struct str share, int64_t source, const struct remote_chunk *chunks, size_t n,
                       const bool *wanted)
{
	AUTO_JSON *doc = NULL;
	struct buf path = {0};
	struct chunk_source s = {.face = {.read = chunk_source_read, .rewind = chunk_source_rewind}, .chunks = chunks, .wanted = wanted, .n = n};
	int64_t count = 0;
	for (size_t i = 0; i < n; i++) {
		count += wanted[i];
		s.face.length += wanted[i] ? FRAME_HEAD_BYTES + (int64_t)chunks[i].length : 0;
	}
	if (!count)
		return 0;
	buf_str(&path, remote_bulk_path(ctx, "chunks", share));
	if (source) {
		buf_lit(&path, "&sources=");
		buf_id(&path, ID_VERSION, source);
	}
	struct http_call call = {.method = "POST", .path = buf_as_str(&path), .source = &s.face,
	                         .content_type = STR("application/octet-stream")};
	int err = remote_call(ctx, r, &call, &doc);
	http_call_fini(&call);
	buf_fini(&path);
	return err || json_i64(doc, "chunks", -1) == count ? err : remote_bad(ctx, "not all chunks were stored");
}

/* ---- apply with content ---- */

static void put_time(struct buf *b, int64_t us)
{
	buf_char(b, '"');
	buf_time_us(b, us);
	buf_char(b, '"');
}

static void put_file(struct buf *b, const struct remote_file *f)
{
	buf_fmt(b, "{\"resource_type\":\"file\",\"change_type\":\"%s\",", f->id ? "updated" : "created");
	if (f->twin_version_id) {
		buf_lit(b, "\"source_version_id\":\"");
		buf_id(b, ID_VERSION, f->twin_version_id);
		buf_char(b, '"');
	} else {
		buf_lit(b, "\"chunks\":[");
		for (size_t i = 0; i < f->n_chunks; i++) {
			if (i)
				buf_char(b, ',');
			put_hash(b, &f->chunks[i]);
		}
		buf_char(b, ']');
	}
	buf_lit(b, ",\"op_id\":");
	json_put_str(b, f->op_id);
	if (f->id) {
		buf_lit(b, ",\"resource_id\":\"");
		buf_id(b, ID_FILE, f->id);
		buf_char(b, '"');
	}
	if (f->id && f->base_version_id) {
		buf_lit(b, ",\"base_version_id\":\"");
		buf_id(b, ID_VERSION, f->base_version_id);
		buf_char(b, '"');
	}
	if (f->id && f->base_version_id && !f->twin_version_id) {
		buf_lit(b, ",\"sources\":[\"");
		buf_id(b, ID_VERSION, f->base_version_id);
		buf_lit(b, "\"]");
	}
	buf_lit(b, ",\"metadata\":{\"checksum_sha256\":");
	put_hash(b, &f->checksum);
	buf_fmt(b, ",\"executable\":%s,\"mtime\":", f->executable ? "true" : "false");
	put_time(b, f->mtime_us);
	if (!f->id) {
		buf_lit(b, ",\"name\":");
		json_put_str(b, f->name);
		buf_lit(b, ",\"parent_id\":");
		if (f->parent == TREE_ROOT) {
			buf_lit(b, "null");
		} else {
			buf_char(b, '"');
			remote_put_id(b, NODE_FOLDER, f->parent);
			buf_char(b, '"');
		}
	}
	buf_lit(b, "}}");
}

static struct remote_file *file_at(struct json_object *o, struct remote_file *files, size_t n)
{
	int64_t i = json_i64(o, "index", -1);
	return i >= 0 && (uint64_t)i < n ? &files[i] : NULL;
}

static int read_done(struct ctx *ctx, struct json_object *o, struct remote_file *f)
{
	struct str parent = json_str(o, "parent_id"), name = json_str(o, "name");
	f->stored = (struct node_facts){.kind = NODE_FILE, .parent = TREE_ROOT, .size_bytes = f->size_bytes,
	                                .checksum = f->checksum, .mtime_us = f->mtime_us, .executable = f->executable,
	                                .version = json_i64(o, "version", 0)};
	f->conflict = str_eq(json_str(o, "status"), STR("conflict"));
	f->entry = f->conflict ? 0 : json_i64(o, "cursor", 0);
	if (!id_parse_kind(json_str(o, "resource_id"), ID_FILE, &f->stored.id) || !name.p ||
	    !id_parse_kind(json_str(o, "version_id"), ID_VERSION, &f->stored.version_id) ||
	    (parent.p && !id_parse_kind(parent, ID_FOLDER, &f->stored.parent)))
		return remote_bad(ctx, "a stored file without its ids");
	f->stored.name = arena_str(ctx->arena, name);
	f->err = f->conflict ? E_UPSTREAM : 0; /* until the conflict names our version */
	return 0;
}

static int read_results(struct ctx *ctx, struct json_object *doc, struct remote_file *files, size_t n)
{
	struct json_object *applied = json_get(doc, "applied"), *errors = json_get(doc, "errors");
	struct json_object *conflicts = json_get(doc, "conflicts");
	if (!applied || !errors || !conflicts)
		return remote_bad(ctx, "apply without its results");
	int err = 0;
	for (size_t i = 0; i < json_len(applied) && !err; i++) {
		struct remote_file *f = file_at(json_at(applied, i), files, n);
		err = f ? read_done(ctx, json_at(applied, i), f) : remote_bad(ctx, "a result of nothing");
	}
	for (size_t i = 0; i < json_len(conflicts) && !err; i++) {
		struct remote_file *f = file_at(json_at(conflicts, i), files, n);
		struct str ours = json_str(json_at(conflicts, i), "local_version_id");
		if (f && f->conflict && id_parse_kind(ours, ID_VERSION, &f->stored.version_id))
			f->err = 0;
	}
	for (size_t i = 0; i < json_len(errors) && !err; i++) {
		struct json_object *o = json_at(errors, i);
		struct remote_file *f = file_at(o, files, n);
		if (!f)
			return remote_bad(ctx, "a result of nothing");
		struct str code = json_str(o, "code");
		f->err = code.p ? err_from_code(arena_cstr(ctx->arena, code)) : E_OK;
		f->err = f->err == E_OK ? E_CONFLICT : f->err;
		f->detail = arena_str(ctx->arena, json_str(o, "detail"));
	}
	return err;
}

int remote_put_files(struct ctx *ctx, struct remote *r, struct str share, struct str strategy, int64_t base_cursor,
                     struct remote_file *files, size_t n)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	must(n <= LIMIT_APPLY_CHANGES);
	buf_lit(&body, "{\"device_id\":");
	json_put_str(&body, r->device_id);
	buf_lit(&body, ",\"share_id\":");
	json_put_str(&body, share);
	if (strategy.n) {
		buf_lit(&body, ",\"conflict_resolution\":");
		json_put_str(&body, strategy);
	}
	buf_fmt(&body, ",\"base_cursor\":%lld,\"changes\":[", (long long)base_cursor);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(&body, ',');
		put_file(&body, &files[i]);
		files[i].err = E_UPSTREAM; /* until the answer names it */
	}
	buf_lit(&body, "]}");
	int err = remote_post(ctx, r, STR("/api/v1/sync/apply"), &body, &doc);
	buf_fini(&body);
	return err ? err : read_results(ctx, doc, files, n);
}

/* ---- fetching ---- */

struct frame_sink {
	struct http_sink face;
	struct frame_reader frames;
	size_t at, n; /* versions ended, asked */
	remote_frame_fn *on_frame;
	void *arg;
};

static int frame_sink_write(struct http_sink *self, const void *p, size_t n)
{
	struct frame_sink *s = (struct frame_sink *)self;
	struct str in = str_n(p, n);
	for (bool ready = true; ready;) {
		struct frame f;
		if (frame_next(&s->frames, &in, &ready, &f))
			return E_UPSTREAM;
		if (!ready)
			break;
		if (s->at == s->n)
			return E_UPSTREAM;
		int err = s->on_frame(s->arg, s->at, &f);
		if (err)
			return err;
		s->at += f.length == 0;
	}
	return 0;
}

/* Asks for n items, and empties the body. flags: those that frames may bear. */
static int fetch_items(struct ctx *ctx, struct remote *r, struct str share, struct buf *body, size_t n, uint32_t flags,
                       remote_frame_fn *on_frame, void *arg)
{
	struct frame_sink s = {.face = {.write = frame_sink_write}, .n = n, .on_frame = on_frame, .arg = arg};
	s.frames.allowed = flags;
	struct http_call call = {.method = "POST", .path = remote_bulk_path(ctx, "chunks/fetch", share), .body = buf_as_str(body),
	                         .content_type = STR("application/json"), .sink = &s.face};
	int err = remote_call(ctx, r, &call, NULL);
	bool whole = s.at == n && frame_between(&s.frames);
	http_call_fini(&call);
	buf_fini(body);
	frame_reader_fini(&s.frames);
	if (err == E_UPSTREAM || (!err && !whole))
		return remote_bad(ctx, "chunks that do not fit the request");
	return err;
}

int remote_fetch(struct ctx *ctx, struct remote *r, struct str share, const int64_t *version_ids, size_t n,
                 remote_frame_fn *on_frame, void *arg)
{
	struct buf body = {0};
	must(n <= LIMIT_CHUNKS_REQUEST);
	buf_lit(&body, "{\"zstd\":true,\"items\":[");
	for (size_t i = 0; i < n; i++) {
		buf_str(&body, i ? STR(",{\"version_id\":\"") : STR("{\"version_id\":\""));
		buf_id(&body, ID_VERSION, version_ids[i]);
		buf_lit(&body, "\"}");
	}
	buf_lit(&body, "]}");
	return fetch_items(ctx, r, share, &body, n, FRAME_ZSTD, on_frame, arg);
}

static void put_bases(struct buf *b, int64_t version_id, const struct remote_want *wants, size_t n)
{
	buf_lit(b, ",\"base_version_id\":\"");
	buf_id(b, ID_VERSION, version_id);
	buf_lit(b, "\",\"bases\":[");
	for (size_t i = 0; i < n; i++) {
		const struct remote_run *base = &wants[i].base;
		if (i)
			buf_char(b, ',');
		if (base->count)
			buf_fmt(b, "{\"first\":%u,\"count\":%u}", base->first, base->count);
		else
			buf_lit(b, "null");
	}
	buf_char(b, ']');
}

int remote_fetch_chunks(struct ctx *ctx, struct remote *r, struct str share, int64_t version_id, int64_t base_version_id,
                        const struct remote_want *wants, size_t n, remote_frame_fn *on_frame, void *arg)
{
	struct buf body = {0};
	must(n <= LIMIT_CHUNKS_REQUEST);
	buf_lit(&body, "{\"zstd\":true,\"items\":[{\"version_id\":\"");
	buf_id(&body, ID_VERSION, version_id);
	buf_lit(&body, "\",\"chunks\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(&body, ',');
		put_hash(&body, &wants[i].hash);
	}
	buf_char(&body, ']');
	put_bases(&body, base_version_id, wants, n);
	buf_lit(&body, "}]}");
	return fetch_items(ctx, r, share, &body, 1, FRAME_ZSTD | FRAME_BASED, on_frame, arg);
}
