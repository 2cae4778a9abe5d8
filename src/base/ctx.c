#include "base/ctx.h"

#include <limits.h>

#include "base/json.h"

void ctx_init(struct ctx *ctx, struct arena *arena, const struct clock *clock, struct rng *rng)
{
	*ctx = (struct ctx){.arena = arena, .clock = clock, .rng = rng};
}

int ctx_fail(struct ctx *ctx, int err, const char *fmt, ...)
{
	if (ctx->err == E_OK) {
		va_list ap;
		va_start(ap, fmt);
		ctx->err = err;
		ctx->detail = arena_vfmt(ctx->arena, fmt, ap);
		va_end(ap);
	}
	return err;
}

int ctx_invalid(struct ctx *ctx, const char *where, struct str field, const char *type, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	struct str msg = arena_vfmt(ctx->arena, fmt, ap);
	va_end(ap);
	struct buf b = {0};
	buf_lit(&b, "[{\"type\":");
	json_put_str(&b, str_c(type));
	buf_lit(&b, ",\"loc\":[");
	json_put_str(&b, str_c(where));
	if (field.n) {
		buf_char(&b, ',');
		json_put_str(&b, field);
	}
	buf_lit(&b, "],\"msg\":");
	json_put_str(&b, msg);
	buf_lit(&b, ",\"input\":null}]");
	if (ctx->err == E_OK) {
		ctx->err = E_INVALID;
		ctx->detail = msg;
		ctx->invalid = arena_str(ctx->arena, buf_as_str(&b));
	}
	buf_fini(&b);
	return E_INVALID;
}

void ctx_retry_after(struct ctx *ctx, int64_t wait_us)
{
	int64_t s = wait_us / SECONDS_US(1) + (wait_us % SECONDS_US(1) > 0);
	ctx->retry_after_s = s < 1 ? 1 : s > INT_MAX ? INT_MAX : (int)s;
}

int ctx_charge(struct ctx *ctx, int64_t units)
{
	return ctx->meter ? ctx->meter->charge(ctx->meter, ctx, units) : 0;
}

void ctx_clear(struct ctx *ctx)
{
	ctx->err = E_OK;
	ctx->retry_after_s = 0;
	ctx->detail = ctx->invalid = STR_NULL;
}

struct str ctx_detail(const struct ctx *ctx, int err)
{
	return ctx->err == err && ctx->detail.p ? ctx->detail : str_c(err_info(err)->sentence);
}
