/* The drive's side of export and import. */
#include <stdlib.h>

#include "bin/carry.h"
#include "drive/folder.h"
#include "drive/share.h"

static int pick(struct ctx *ctx, const struct share_list *list, struct str name, struct share *out, size_t *found)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_eq(list->items[i].name, name)) {
			*out = list->items[i];
			++*found;
		}
	return *found > 1 ? ctx_fail(ctx, E_CONFLICT, "Several shares are named %.*s; give its id.", STR_ARG(name)) : 0;
}

int carry_share(struct ctx *ctx, struct str name, int64_t *id)
{
	struct share share;
	size_t found = 0;
	if (id_parse_kind(name, ID_SHARE, id))
		return drive_share_get(ctx, *id, &share);
	for (int64_t offset = 0;;) {
		struct share_list list;
		int err = drive_share_list(ctx, &(struct share_list_in){.limit = 100, .offset = offset}, &list);
		if (!err)
			err = pick(ctx, &list, name, &share, &found);
		if (err)
			return err;
		offset += (int64_t)list.n;
		if (!list.n || offset >= list.total)
			break;
	}
	*id = share.id;
	return found ? 0 : ctx_fail(ctx, E_NOT_FOUND, "There is no share %.*s.", STR_ARG(name));
}

int carry_as(struct runtime *rt, const struct args *args, struct arena *a, struct principal *who, struct ctx *out)
{
	struct user u;
	int err = 0;
	*who = (struct principal){.scopes = SCOPE_ALL};
	if (arg(args, "user")) {
		err = named_user(rt, args, "user", &u);
		if (!err)
			err = principal_load(&rt->ctx, u.tenant_id, u.id, who);
	} else {
		who->admin = ADMIN_TENANT;
		err = runtime_tenant(rt, args, &who->tenant_id);
	}
	ctx_init(out, a, &clock_system, &rng_system);
	out->drive = &rt->drive;
	out->who = who;
	out->tenant_id = who->tenant_id;
	return err;
}

enum { WINDOW = 1 << 20 };

static int read_out(const struct file_content *c, struct sha256_state *h, char *window, carry_fn *fn, void *arg)
{
	int64_t at = 0;
	int err = 0;
	while (!err && at < c->version.size_bytes) {
		size_t got = 0;
		err = content_read(c->reader, at, window, WINDOW, &got);
		if (!err && !got)
			err = E_CORRUPT;
		if (!err)
			err = fn(arg, window, got);
		sha256_update(h, window, err ? 0 : got);
		at += (int64_t)got;
	}
	return err;
}

int carry_out(struct ctx *ctx, int64_t file_id, int64_t number, carry_fn *fn, void *arg)
{
	struct file_content c;
	int err = file_content_open(ctx, file_id, number, true, &c);
	if (err)
		return err;
	char *window = malloc(WINDOW);
	must(window);
	struct sha256_state *h = sha256_new();
	err = read_out(&c, h, window, fn, arg);
	struct sha256 digest = sha256_final(h);
	sha256_free(h);
	free(window);
	file_content_close(&c);
	return err ? err : sha256_eq(&digest, &c.version.sha256) ? 0 : E_CORRUPT;
}

int carry_put(struct ctx *ctx, const struct carry_put *in)
{
	struct version_result result;
	const struct version_put put = {
	    .share_id = in->share_id,
	    .folder_id = in->folder_id,
	    .name = in->name,
	    .replace_file_id = in->replace_id,
	    .base_version_id = in->keep_both ? 0 : in->base_version_id,
	    .strategy = in->keep_both ? RESOLVE_KEEP_BOTH : RESOLVE_NONE,
	    .content = in->content,
	    .has_mtime = true,
	    .mtime_us = in->mtime_us,
	    .has_executable = true,
	    .executable = in->executable,
	};
	return drive_file_put(ctx, &put, &result);
}

int carry_folder(struct ctx *ctx, int64_t share_id, int64_t parent_id, struct str name, int64_t *id)
{
	struct node made;
	int err = drive_folder_create(ctx, &(struct folder_create){.share_id = share_id, .parent_id = parent_id, .name = name}, &made);
	*id = err ? 0 : made.id;
	return err;
}

int carry_name(struct ctx *ctx, struct str name)
{
	return node_name_check(ctx, name);
}

int carry_key(struct ctx *ctx, uint8_t key[32])
{
	return drive_chunk_key(ctx, key);
}

void carry_tell(struct progress *p, struct str path, struct str sentence)
{
	struct buf b = {0};
	progress_wipe(p);
	put_plain(&b, path);
	buf_lit(&b, ": ");
	put_plain(&b, sentence);
	fprintf(stderr, "scaidrived: %.*s\n", STR_ARG(buf_as_str(&b)));
	buf_fini(&b);
}

int carry_failed(struct progress *p, struct str path, struct ctx *ctx, int err)
{
	carry_tell(p, path, ctx_detail(ctx, err));
	ctx_clear(ctx);
	return err == E_NO_SPACE || err == E_READ_ONLY || err == E_DB || err == E_QUOTA ? err : 0;
}
