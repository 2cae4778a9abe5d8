/* limits: every bound of the product in one place (I9). Sizes in bytes, times in milliseconds unless the name says. */
#ifndef SD_BASE_LIMITS_H
#define SD_BASE_LIMITS_H

/* clang-format off */
#define LIMIT_JSON_DEPTH            64
#define LIMIT_JSON_BODY             (16 << 20)  /* an ordinary JSON body; sync/apply uses it to the full */
#define LIMIT_JSON_BODY_SMALL       (256 << 10) /* routes that do not ask for more */
#define LIMIT_JSON_VALUES           (1 << 20)   /* of a document: 40 bytes of memory each, as many again while it is read */
#define LIMIT_HEADER_MEMORY         (16 << 10)  /* connection pool; headers above it give 431 */
#define LIMIT_NAME_BYTES            255
#define LIMIT_PATH_BYTES            8192
#define LIMIT_PATH_DEPTH            128         /* folders below a share's root */
#define LIMIT_TEXT                  4096        /* descriptions and the like */
#define LIMIT_PAGE_CHANGES          5000
#define LIMIT_PAGE_SNAPSHOT         10000
#define LIMIT_PAGE_LIST             100
#define LIMIT_APPLY_CHANGES         10000
#define LIMIT_APPLY_ALL_OR_NONE     500         /* changes of a request that has one transaction: about 10 ms */
#define LIMIT_APPLY_TX_US           40000       /* then a transaction takes no more: the writer is held for 50 ms at most (D5) */
#define LIMIT_APPLY_TRASH_WALK      100000      /* nodes looked at when base_cursor guards a folder deletion */
#define LIMIT_FILE_BYTES            (INT64_C(5) << 30)  /* one multipart request; per tenant setting */
#define LIMIT_CONTENT_BYTES         (INT64_C(1) << 50)  /* any file at all */
#define LIMIT_DEVICE_ID_BYTES       128
#define LIMIT_DEVICES_PER_USER      1000
#define LIMIT_MEMBERS_PER_SHARE     10000
#define LIMIT_OP_ID_BYTES           128
#define LIMIT_IDEMPOTENCY_KEY_BYTES 128
#define LIMIT_WS_PER_PRINCIPAL      64
#define LIMIT_WS_FRAME              (64 << 10)  /* from a client */
#define LIMIT_WS_QUEUE_FRAMES       256         /* to a client that does not read; then it is closed */
#define LIMIT_WS_BURST              16          /* change frames a share in LIMIT_WS_BURST_MS (D9) */
#define LIMIT_WS_BURST_MS           50
#define LIMIT_LANE_QUEUE            1024
#define LIMIT_SLOW_BODY_MS          30000       /* a body must make progress within this */
#define LIMIT_CHUNKS_REQUEST        10000       /* hashes asked about, items fetched, in one request */
#define LIMIT_CHUNKS_INLINE         64          /* of one change in apply (D14) */
#define LIMIT_CHUNK_SOURCES         64          /* versions named as sources in one request; 16 a change */
#define LIMIT_CHUNK_SOURCE_CHUNKS   200000      /* chunks in the recipes of one request's sources */
#define LIMIT_BASE_BYTES            (INT64_C(1) << 30) /* of known chunks, read for the patches of one body, or for one answer */
#define LIMIT_SIGNED_BYTES          (64 << 20)  /* content whose signatures are told in one request */
#define LIMIT_CHUNKS_BODY           (256 << 20) /* one bulk body */
#define LIMIT_CHUNKS_GROUP          16000       /* chunks of a bulk body that become durable together, by one sync */
#define LIMIT_CHUNKS_GROUP_BYTES    (64 << 20)  /* the same, bytes */
#define LIMIT_CHUNKS_TX             4096        /* of them, indexed in one transaction */
#define LIMIT_CHUNK_LEASE_MS        (INT64_C(24) * 3600 * 1000)
#define LIMIT_APPLY_HASH_BYTES      (64 << 20)  /* content of several chunks that one apply reads again to verify it */
#define LIMIT_STEPS_BODY            (16 << 20)  /* what a content is made of, in one request */
#define LIMIT_ASSEMBLED_CHUNKS      4000000     /* of such a content; of its sources together */
#define LIMIT_ASSEMBLED_BYTES       (INT64_C(64) << 30) /* the server hashes it while the client waits */
#define LIMIT_ASSEMBLE_MS           600000
#define LIMIT_RATE_UNIT_BYTES       (4 << 20)   /* such content costs a rate unit for so many bytes (D14): a fifth of sending them */
#define LIMIT_LEASED_BYTES          (INT64_C(4) << 30) /* of a user, leased and not yet in a version */
#define LIMIT_LEASE_CHUNK_BYTES     4096        /* a smaller chunk counts as so many */
#define LIMIT_LEASES                4096        /* of a user; each covers up to LIMIT_CHUNKS_TX chunks */
#define LIMIT_LEASE_USED_MS         60000       /* a lease whose chunks are all in versions lives so long; others may use them, too */
#define LIMIT_INGEST_MS             (INT64_C(24) * 3600 * 1000) /* from the first byte of a content to its version */
#define LIMIT_PACK_OPEN_MS          (INT64_C(12) * 3600 * 1000) /* small writes begin another pack then */
#define LIMIT_FOUND_MS              1800000     /* a chunk found so long ago is looked at again before it is used */
#define LIMIT_CONDEMNED_MS          3600000     /* from a chunk's being condemned to its removal; above LIMIT_FOUND_MS by more
                                                 * than nodes' clocks differ, and above LIMIT_ASSEMBLE_MS */
#define LIMIT_STAGED_MS             (INT64_C(24) * 3600 * 1000)
#define LIMIT_INFLATED_BYTES        (INT64_C(64) << 30)  /* counted of a gzip file; beyond it the size is unknown */
#define LIMIT_INFLATED_FREE         (256 << 20) /* the same, whatever it came from; above it: */
#define LIMIT_INFLATED_RATIO        100         /* bytes for one that came; a bomb is not worth the time */
#define LIMIT_UPLOAD_MS             (INT64_C(24) * 3600 * 1000) /* without activity */
#define LIMIT_UPLOAD_KEPT_MS        (INT64_C(7) * 24 * 3600 * 1000) /* an ended session's answer */
#define LIMIT_UPLOAD_CHUNK_MIN      (64 << 10)
#define LIMIT_UPLOAD_CHUNK_MAX      (4 << 20)
#define LIMIT_UPLOAD_PIECES         1000000
#define LIMIT_UPLOAD_HINTS          100000                /* hashes that come with the beginning of an upload */
#define LIMIT_UPLOAD_HINT_SESSIONS  1000                  /* earlier ones of the user that are looked through for them */
#define LIMIT_UPLOADS_PER_USER      1000                  /* open ones */
#define LIMIT_UPLOAD_RESERVED_BYTES (INT64_C(16) << 40)   /* of one user's open sessions together */
#define LIMIT_UPLOAD_MEMORY         (16 << 20)            /* pieces held in memory, of all sessions */
#define LIMIT_UPLOAD_HELD           (12 << 20)            /* the same of one session: a further piece waits in its socket */
#define LIMIT_UPLOAD_HELD_MS        1000                  /* so long at most; those before it may come slowly, or not at all */
#define LIMIT_UPLOAD_WAIT_MS        3000                  /* a whole piece waits for its turn before it is staged */
#define LIMIT_UPLOAD_GAP_MS         250                   /* the same, when a piece before it is not even on its way */
#define LIMIT_UPLOAD_WAITING        1                     /* completions that hold a worker until all is fed */
#define LIMIT_UPLOAD_INGESTS        64                    /* live ones */
#define LIMIT_OP_RESULT_MS          (INT64_C(30) * 24 * 3600 * 1000)
#define LIMIT_TOKEN_TTL_S           3600
#define LIMIT_TOKEN_TTL_MAX_S       (366 * 24 * 3600)
#define LIMIT_TOKEN_BYTES           8192
/* clang-format on */

#endif
