"""Reads every source with clang under the build's warnings: tests/clang.py BUILD. Silent when all is well.

BUILD is a set-up build folder whose generated files are there. The build itself uses gcc; this keeps the other compiler
clean without a second build. What reads a peer's bytes is held to -Wconversion as well."""
import concurrent.futures
import glob
import json
import os
import shlex
import subprocess
import sys

PARSERS = {'base/buf.c', 'base/id.c', 'base/json.c', 'base/str.c', 'base/time.c', 'chunks/codec.c', 'chunks/frame.c', 'chunks/pack.c', 'chunks/recipe.c',
           'chunks/steps.c', 'client/remote.c', 'drive/cursor.c', 'http/encode.c', 'http/multipart.c', 'http/range.c', 'http/validate.c', 'io/jose.c'}


def command(entry):
    """The compiler's command of one source, turned into a look by clang: places, macros and warnings stay."""
    kept = [w for w in shlex.split(entry['command']) if w.startswith(('-I', '-D', '-U', '-W', '-std=')) and not w.startswith('-Wl')]
    kept = [w for w in kept if w not in ('-Winvalid-pch', '-Wshadow=local')]
    # what gcc alone is wrong about (meson.build) clang is asked all the same
    kept = [w for w in kept if not w.startswith('-Wno-') or w == '-Wno-missing-field-initializers']
    if entry['file'].split('src/')[-1] in PARSERS:
        kept.append('-Wconversion')
    return ['clang', '-fsyntax-only', '-pthread', *kept, entry['file']]


def look(entry):
    done = subprocess.run(command(entry), cwd=entry['directory'], capture_output=True, text=True)
    return '' if done.returncode == 0 and not done.stderr else f'{entry["file"]}\n{done.stderr}'


def main():
    with open(os.path.join(sys.argv[1], 'compile_commands.json')) as f:
        entries = {e['file']: e for e in json.load(f)}
    # the fuzz targets are built on demand only, with the same places and macros
    any_test = next(e for name, e in entries.items() if name.endswith('_test.c'))
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for path in glob.glob(os.path.join(root, 'src', '**', '*_fuzz.c'), recursive=True):
        entries.setdefault(os.path.relpath(path, any_test['directory']), any_test | {'file': path})
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get('CLANG_JOBS', '2'))) as pool:
        faults = [f for f in pool.map(look, entries.values()) if f]
    print('\n'.join(faults), end='\n' if faults else '')
    return 1 if faults or not entries else 0


if __name__ == '__main__':
    sys.exit(main())
