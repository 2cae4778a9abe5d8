/* codec: how a chunk's bytes are stored: as they are, or as one zstd frame. The codec is a byte in the index. */
#ifndef SD_CHUNKS_CODEC_H
#define SD_CHUNKS_CODEC_H

#include "base/err.h"
#include "base/str.h"
#include "chunks/chunker.h"

enum codec { CODEC_RAW = 0, CODEC_ZSTD = 1, CODEC_COUNT };

/* Contexts and a buffer for one thread at a time; about 1 MiB. */
struct codec_work;
struct codec_work *codec_work_new(void);
void codec_work_free(struct codec_work *w);

/* Encodes n <= CHUNK_MAX_BYTES. *stored points to p (CODEC_RAW) or into w until its next use. */
enum codec codec_encode(struct codec_work *w, const void *p, size_t n, struct str *stored);
/* Decodes into exactly raw_len bytes at out; anything else is E_CORRUPT. stored and out must not overlap. */
int codec_decode(struct codec_work *w, enum codec codec, struct str stored, void *out, size_t raw_len);

#endif
