"""zstd and XXH3 by the libraries that the server links; Debian has no Python packages of them in the list of what we need."""
import ctypes

_zstd = ctypes.CDLL('libzstd.so.1')
_xxh = ctypes.CDLL('libxxhash.so.0')
for _name in ('ZSTD_compressBound', 'ZSTD_compress2', 'ZSTD_CCtx_setParameter', 'ZSTD_CCtx_refPrefix', 'ZSTD_decompressDCtx', 'ZSTD_DCtx_refPrefix'):
    getattr(_zstd, _name).restype = ctypes.c_size_t
_zstd.ZSTD_createCCtx.restype = _zstd.ZSTD_createDCtx.restype = ctypes.c_void_p
_zstd.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
_zstd.ZSTD_CCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_zstd.ZSTD_CCtx_refPrefix.argtypes = _zstd.ZSTD_DCtx_refPrefix.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_compress2.argtypes = _zstd.ZSTD_decompressDCtx.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_freeCCtx.argtypes = _zstd.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
_xxh.XXH3_64bits.restype = ctypes.c_uint64
_xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
WINDOW_LOG, CONTENT_SIZE = 101, 200


def xxh3(content):
    return _xxh.XXH3_64bits(content, len(content))


def zstd(content, declared=True):
    context = _zstd.ZSTD_createCCtx()
    _zstd.ZSTD_CCtx_setParameter(context, CONTENT_SIZE, int(declared))
    out = ctypes.create_string_buffer(_zstd.ZSTD_compressBound(len(content)))
    n = _zstd.ZSTD_compress2(context, out, len(out), content, len(content))
    _zstd.ZSTD_freeCCtx(context)
    assert n <= len(out)
    return out.raw[:n]


def unzstd(frame, size_max, prefix=b''):
    context = _zstd.ZSTD_createDCtx()
    if prefix:
        _zstd.ZSTD_DCtx_refPrefix(context, prefix, len(prefix))
    out = ctypes.create_string_buffer(size_max)
    n = _zstd.ZSTD_decompressDCtx(context, out, size_max, frame, len(frame))
    _zstd.ZSTD_freeDCtx(context)
    assert n <= size_max, 'no frame, or more than that'
    return out.raw[:n]
