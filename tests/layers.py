"""Checks the arrows between the layers (ARCHITECTURE.md): tests/layers.py [SRC]. Silent when all is well.

Every quoted #include of a file in src/ must lead to the same layer or to one that its layer may know. A feature
knows no other feature; only the shared files directly in features/ are for all of them. io/jose.c alone includes
rhonabwy and jansson, since their names clash with those of base/json.h."""
import os
import re
import sys

LOWER = {
    'base': set(),
    'io': {'base'},
    'db': {'io', 'base'},
    'chunks': {'db', 'io', 'base'},
    'reconcile': {'base'},
    'drive': {'db', 'chunks', 'reconcile', 'io', 'base'},
    'http': {'drive', 'io', 'base'},
    'features': {'http', 'drive', 'db', 'chunks', 'reconcile', 'io', 'base'},
    'client': {'reconcile', 'chunks', 'db', 'io', 'base'},
    'bin': {'features', 'client', 'http', 'drive', 'db', 'chunks', 'reconcile', 'io', 'base'},
}
GENERATED = {'api.h': 'features'}
# A test builds the world below its layer, so it may reach everything that its layer reaches through others.
BELOW = {layer: set(lower) for layer, lower in LOWER.items()}
for _ in LOWER:
    for below in BELOW.values():
        below |= {deeper for layer in set(below) for deeper in BELOW[layer]}
ONLY_IN = {'rhonabwy.h': {'io/jose.c'}, 'jansson.h': {'io/jose.c'}}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
LIMITS = {'.c': 1000, '.h': 300}


def layer_of(path):
    return path.split('/')[0]


def feature_of(path):
    parts = path.split('/')
    return parts[1] if parts[0] == 'features' and len(parts) > 2 else None


def judge(path, kind, target, files):
    """What is wrong with one include, or None."""
    layer = layer_of(path)
    allowed = ONLY_IN.get(target)
    if allowed and path not in allowed:
        return f'{target} belongs to {", ".join(sorted(allowed))} alone'
    if kind == '<':
        return None
    if target in GENERATED:
        return None if layer in ('features', 'bin') or path.endswith(('_test.c', '_fuzz.c')) else f'{layer}/ may not include {target}'
    if target not in files:
        return f'{target} is not in src/ (include paths begin there)'
    other = layer_of(target)
    known = BELOW if path.endswith(('_test.c', '_fuzz.c')) else LOWER
    if other != layer and other not in known[layer]:
        return f'{layer}/ may not know {other}/'
    if feature_of(target) and feature_of(path) != feature_of(target) and layer == 'features':
        return f'a feature may not know another: {target}'
    if target.endswith('_priv.h') and os.path.dirname(target) != os.path.dirname(path):
        return f'{target} is private to its folder'
    return None


def check(src):
    files = {os.path.relpath(os.path.join(d, n), src) for d, _, names in os.walk(src) for n in names if n.endswith(('.c', '.h'))}
    faults = []
    for path in sorted(files):
        if layer_of(path) not in LOWER:
            faults.append(f'src/{path}: {layer_of(path)}/ is not a layer')
            continue
        with open(os.path.join(src, path), encoding='utf-8') as f:
            lines = f.read().splitlines()
        for number, line in enumerate(lines, 1):
            found = INCLUDE.match(line)
            why = judge(path, found[1], found[2], files) if found else None
            if why:
                faults.append(f'src/{path}:{number}: {why}')
        if len(lines) >= LIMITS[path[-2:]]:
            faults.append(f'src/{path}: {len(lines)} lines; it has two jobs')
    return faults


if __name__ == '__main__':
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = check(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, 'src'))
    print('\n'.join(found), end='\n' if found else '')
    sys.exit(1 if found else 0)
