#include "features/sync/sync_priv.h"

static int fill(struct body_source *source, int64_t position, void *out, size_t cap, size_t *got)
{
	struct piece_source *s = (struct piece_source *)source;
	(void)position; /* always called in order */
	*got = 0;
	while (*got < cap) {
		if (s->sent == s->piece.n) {
			buf_clear(&s->piece);
			s->sent = 0;
			int err = s->next(s, &s->piece);
			if (err || !s->piece.n)
				return err;
		}
		size_t left = s->piece.n - s->sent, n = left < cap - *got ? left : cap - *got;
		memcpy((char *)out + *got, s->piece.p + s->sent, n);
		s->sent += n;
		*got += n;
	}
	return 0;
}

static void finish(struct body_source *source)
{
	struct piece_source *s = (struct piece_source *)source;
	s->fini(s);
	buf_fini(&s->piece);
}

void piece_source_reply(struct piece_source *s, int64_t length, int (*next)(struct piece_source *self, struct buf *piece),
                        void (*fini)(struct piece_source *self), struct reply *out)
{
	*s = (struct piece_source){.source = {.fill = fill, .close = finish, .length = length}, .next = next, .fini = fini};
	out->content_type = STR("application/octet-stream");
	out->source = &s->source;
}
