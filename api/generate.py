"""The API, declared once: api/*.yaml -> C (api.h, api.c, routes.c), openapi.json and the reference page.

    generate.py --out DIR [YAML ...]      what the build needs
    generate.py --docs DIR [YAML ...]     DIR/openapi.json and DIR/integrate/reference.md, which are committed
    generate.py --docs DIR --check        exits 1 and says so when those are stale

Without YAML files it reads all beside itself. The output depends on the input alone, byte for byte.
"""
import argparse
import glob
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

import emit_c  # noqa: E402
import emit_docs  # noqa: E402
import model  # noqa: E402


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8', newline='\n') as f:
        f.write(text)


def read(path):
    try:
        with open(path, encoding='utf-8', newline='') as f:
            return f.read()
    except FileNotFoundError:
        return None


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', help='folder for api.h, api.c, routes.c and openapi.json')
    parser.add_argument('--docs', help='folder for openapi.json and integrate/reference.md')
    parser.add_argument('--check', action='store_true', help='write nothing; say whether the documents are stale')
    parser.add_argument('--errors', default=os.path.join(HERE, '..', 'src', 'base', 'err.h'), help='the table of errors')
    parser.add_argument('yaml', nargs='*')
    args = parser.parse_args(argv)
    paths = args.yaml or glob.glob(os.path.join(HERE, '*.yaml'))
    try:
        api = model.Api(paths, args.errors)
        document = emit_docs.openapi_json(api)
        if args.out:
            write(os.path.join(args.out, 'api.h'), emit_c.header(api))
            write(os.path.join(args.out, 'api.c'), emit_c.source(api))
            write(os.path.join(args.out, 'routes.c'), emit_c.routes(api))
            write(os.path.join(args.out, 'openapi.json'), document)
        if args.docs:
            pages = {os.path.join(args.docs, 'openapi.json'): document,
                     os.path.join(args.docs, 'integrate', 'reference.md'): emit_docs.reference(api)}
            if not args.check:
                for path, text in pages.items():
                    write(path, text)
            stale = [path for path, text in pages.items() if read(path) != text]
            if stale:
                print(f'stale: {", ".join(stale)}; run api/generate.py --docs docs', file=sys.stderr)
                return 1
    except (model.Fault, KeyError) as fault:
        print(f'generate.py: {fault}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
