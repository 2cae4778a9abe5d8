#include "drive/password.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <argon2.h>

enum { PASSES = 3, MEMORY_KIB = 64 * 1024, LANES = 1, SALT_BYTES = 16, HASH_BYTES = 32 };

/* Of no password: the digest is all zeros. */
static const char nobody[] = "$argon2id$v=19$m=65536,t=3,p=1$c2NhaWRyaXZlLm5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static struct {
	pthread_mutex_t lock;
	pthread_cond_t freed;
	int running, waiting;
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

int password_enter(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int err = 0;
	pthread_mutex_lock(&gate.lock);
	if (gate.running >= cores && gate.waiting >= PASSWORD_WAITING_MAX) {
		err = E_BUSY;
	} else {
		gate.waiting++;
		while (gate.running > 0 && gate.running >= cores)
			pthread_cond_wait(&gate.freed, &gate.lock);
		gate.waiting--;
		gate.running++;
	}
	pthread_mutex_unlock(&gate.lock);
	return err;
}

void password_leave(void)
{
	pthread_mutex_lock(&gate.lock);
	gate.running--;
	pthread_cond_signal(&gate.freed);
	pthread_mutex_unlock(&gate.lock);
}

int password_hash(struct ctx *ctx, struct str password, struct str *encoded)
{
	uint8_t salt[SALT_BYTES];
	char out[160];
	if (password.n < PASSWORD_MIN_BYTES || password.n > PASSWORD_MAX_BYTES)
		return ctx_invalid(ctx, "body", STR("password"), "value_error", "A password has %d to %d bytes",
		                   PASSWORD_MIN_BYTES, PASSWORD_MAX_BYTES);
	int err = password_enter();
	if (err)
		return ctx_fail(ctx, err, "Too many sign-ins at once; try again shortly.");
	ctx->rng->fill(ctx->rng, salt, sizeof salt);
	int bad = argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password.p, password.n, salt, sizeof salt, HASH_BYTES, out,
	                                sizeof out);
	password_leave();
	if (bad)
		return ctx_fail(ctx, E_INTERNAL, "The password could not be hashed: %s", argon2_error_message(bad));
	*encoded = arena_str(ctx->arena, str_c(out));
	return 0;
}

bool password_matches(struct str encoded, struct str password)
{
	char text[200];
	bool known = encoded.p && encoded.n < sizeof text;
	if (known) {
		memcpy(text, encoded.p, encoded.n);
		text[encoded.n] = 0;
	}
	int bad = argon2id_verify(known ? text : nobody, password.p, password.n);
	explicit_bzero(text, sizeof text);
	return known && bad == ARGON2_OK;
}
