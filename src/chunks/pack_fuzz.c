/* Any bytes as a pack file, or a pack as it is written with some bytes of it changed. The checksums are repaired first, so that what
 * lies behind them is reached. */
#include "chunks/pack.h"
#include "io/disk_fault.h"

enum { SEGMENTS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	const size_t *size = arg;
	must(e->offset >= 2 * PACK_HEADER_BYTES && (size_t)e->offset + e->stored_len <= *size);
	must(!stored || intact == (xxh3_64(stored, e->stored_len) == e->xxh));
	return E_OK;
}

static void put_sum(uint8_t *header)
{
	uint64_t x = xxh3_64(header, 56);
	memcpy(header + 56, &x, 8);
}

static void repair(uint8_t *p, size_t size)
{
	if (size < PACK_HEADER_BYTES)
		return;
	put_sum(p);
	p += PACK_HEADER_BYTES;
	size -= PACK_HEADER_BYTES;
	while (size >= PACK_HEADER_BYTES) {
		uint64_t x, len = get_le(p + 24, 8), table = get_le(p + 32, 4) * PACK_ENTRY_BYTES, room = size - PACK_HEADER_BYTES;
		bool fits = len <= room && table <= room - len;
		if (fits) {
			x = xxh3_64(p + PACK_HEADER_BYTES + len, (size_t)table);
			memcpy(p + 48, &x, 8);
		}
		put_sum(p);
		if (!fits)
			return;
		p += PACK_HEADER_BYTES + len + table;
		size -= PACK_HEADER_BYTES + (size_t)(len + table);
	}
}

/* A pack of a few small chunks, made once. */
static struct str pattern(void)
{
	static uint8_t bytes[2000];
	static size_t n;
	if (n)
		return str_n(bytes, n);
	struct disk *d = disk_fault_new(1);
	struct pack_writer w;
	uint8_t stored[16];
	bool broken;
	must(pack_create(d, 77, 5, &w) == E_OK);
	for (int i = 0; i < SEGMENTS * 2; i++) {
		struct pack_entry e = {.chunk_id = i + 1, .raw_len = 8 + (uint32_t)i, .stored_len = 8 + (uint32_t)i};
		memset(stored, i + 1, sizeof stored);
		e.xxh = xxh3_64(stored, e.stored_len);
		e.hash = sha256_of(stored, e.stored_len);
		must(pack_append(&w, &e, stored, &broken) == E_OK && (i % 2 == 0 || pack_seal(&w) == E_OK));
	}
	must(disk_pread(w.file, bytes, sizeof bytes, 0, &n) == E_OK && n > 0 && n < sizeof bytes);
	pack_close(&w);
	disk_free(d);
	return str_n(bytes, n);
}

/* Each change: two bytes say where, the third what. */
static void change(struct buf *b, const uint8_t *p, size_t n)
{
	for (; n >= 3; p += 3, n -= 3)
		b->p[get_le(p, 2) % b->n] = (char)p[2];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *d = disk_fault_new(1);
	struct disk_file *f;
	struct pack_info info;
	struct buf b = {0};
	bool written = size > 0 && data[0] % 2;
	buf_str(&b, written ? pattern() : str_n(data, size));
	if (written)
		change(&b, data + 1, size - 1);
	repair((uint8_t *)b.p, b.n);
	must(disk_open(d, "x", DISK_WRITE | DISK_CREATE, &f) == E_OK && disk_pwrite(f, b.p, b.n, 0) == E_OK);
	for (int verify = 0; verify < 2; verify++) {
		int err = pack_scan(f, verify, check_entry, &b.n, &info);
		must(err == E_OK || err == E_CORRUPT);
		must(info.valid_bytes <= info.file_bytes);
		must(!written || size > 3 || (err == E_OK && info.n_entries == SEGMENTS * 2 && !info.n_bad));
	}
	disk_close(f);
	disk_free(d);
	buf_fini(&b);
	return 0;
}
