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

/* On the wire (chunks/frame.h): one zstd frame that declares the size of its content. */

/* Packs n <= CHUNK_MAX_BYTES + CODEC_PACK_EXTRA bytes, with a prefix (or n == 0) of bytes that the other side has as well; at
 * most CODEC_PREFIX_MAX. False: it does not shrink. *packed lies in w until its next use. */
enum { CODEC_PREFIX_MAX = 1 << 20, CODEC_PACK_EXTRA = 64 };
bool codec_pack(struct codec_work *w, struct str prefix, const void *p, size_t n, struct str *packed);
/* The content of one frame, at most cap bytes, into out; no memory but w's is used, whatever the frame says.
 * E_BAD_REQUEST: it is something else, declares no size, 0 or more than cap, or needs another prefix. */
int codec_unpack(struct codec_work *w, struct str prefix, struct str packed, void *out, size_t cap, size_t *n);

#endif
