"""Everything that ./test runs after the packages are there. Prints each step's result and at the end one line:
    N passed, N failed, N skipped
Exit code 0 only when nothing failed. Options: --build DIR (default build-test), --only NAME (repeatable), --list.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as xml

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SANITIZERS = {
    'ASAN_OPTIONS': 'detect_leaks=1:detect_stack_use_after_return=0',
    'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=1',
    'LSAN_OPTIONS': 'print_suppressions=0',
}
WORKERS = 1 + (os.cpu_count() or 2)
STEPS = ['checks', 'clang', 'unit', 'sim', 'sqlite', 'postgresql', 'interop', 'crash']


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def add(self, step, passed, failed, skipped, seconds, text=''):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped
            print(f'{"ok  " if not failed else "FAIL"} {step:<18} {passed} passed, {failed} failed'
                  + (f', {skipped} skipped' if skipped else '') + f'   ({seconds:.0f} s)', flush=True)
            if failed and text:
                print('     ' + '\n     '.join(text.rstrip().splitlines()[-150:]), flush=True)


class Steps:
    def __init__(self, build):
        self.build = os.path.join(ROOT, build)
        self.tally = Tally()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith('SCAIDRIVE')} | SANITIZERS
        for keep in ('SCAIDRIVE_SEEDS', 'SCAIDRIVE_TEST_PG_URL'):
            if keep in os.environ:
                self.env[keep] = os.environ[keep]
        self.env |= {'SCAIDRIVED': os.path.join(self.build, 'scaidrived'), 'SCAIDRIVE_CLIENT': os.path.join(self.build, 'scaidrive'),
                     'SCAIDRIVE_BUILD': self.build, 'PYTHONDONTWRITEBYTECODE': '1'}
        self.logs = os.path.join(self.build, 'test-logs')

    def sh(self, args, timeout, env=None, cwd=ROOT):
        """(exit code, output, seconds); a step that hangs is ended and failed."""
        begin = time.monotonic()
        p = subprocess.Popen(args, cwd=cwd, env=self.env | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, text=True, errors='replace', start_new_session=True)
        try:
            out, _ = p.communicate(timeout=timeout)
            code = p.returncode
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            out, _ = p.communicate()
            out, code = out + f'\nended after {timeout} s', 124
        return code, out, time.monotonic() - begin

    def whole(self, step, args, timeout, env=None):
        """A step that counts as one test."""
        code, out, seconds = self.sh(args, timeout, env)
        skipped = code == 77  # with its reason
        self.tally.add(step, int(code == 0), int(code != 0 and not skipped), int(skipped), seconds, out)
        return code == 0

    def pytest(self, step, *args, timeout=300, env=None):
        self.tally.add(step, *self.run_pytest(step, *args, timeout=timeout, env=env))

    def run_pytest(self, log, *args, timeout, env=None):
        """(passed, failed, skipped, seconds, output)"""
        report = os.path.join(self.logs, log + '.xml')
        if os.path.exists(report):
            os.unlink(report)
        code, out, seconds = self.sh([sys.executable, '-m', 'pytest', '-q', '-ra', '-p', 'no:cacheprovider',
                                      '--junitxml', report, *args], timeout, env)
        with open(os.path.join(self.logs, log + '.log'), 'w') as f:
            f.write(out)
        n = {'tests': 0, 'failures': 0, 'errors': 0, 'skipped': 0}
        if os.path.exists(report):
            for suite in xml.parse(report).getroot().iter('testsuite'):
                for key in n:
                    n[key] += int(suite.get(key, 0))
        failed = n['failures'] + n['errors']
        if code not in (0, 1, 5) or not os.path.exists(report):  # it broke, whatever the report says
            failed = max(failed, 1)
        passed = max(n['tests'] - n['failures'] - n['errors'] - n['skipped'], 0)
        return passed, failed, n['skipped'], seconds, out

    def guarded(self, name, step, *args):
        """A step that breaks is a failed step, not a lost one."""
        begin = time.monotonic()
        try:
            step(*args)
        except Exception:
            self.tally.add(name, 0, 1, 0, time.monotonic() - begin, traceback.format_exc())

    # ---- steps ----
    def checks(self):
        self.pytest('checks', 'tests/checks', 'tests/api_generator', timeout=120)
        self.whole('api documents', [sys.executable, 'api/generate.py', '--docs', 'docs', '--check'], 60)

    def compile(self):
        os.makedirs(self.logs, exist_ok=True)
        if not os.path.exists(os.path.join(self.build, 'build.ninja')):
            code, out, seconds = self.sh(['meson', 'setup', self.build, '--buildtype=debug', '-Doptimization=1', '-Dc_args=-g1',
                                          '-Db_sanitize=address,undefined', '-Db_lundef=false'], 120)
        else:  # meson lists the sources when it is set up, and files may have come or gone
            code, out, seconds = self.sh(['meson', 'setup', '--reconfigure', self.build], 120)
        if code:
            self.tally.add('build', 0, 1, 0, seconds, out)
            return False
        code, out, seconds = self.sh(['ninja', '-C', self.build], 900)
        tests = code == 0 and self.sh(['meson', 'test', '-C', self.build, '--list'], 60)[1]
        if code == 0 and tests:
            # unit tests are not built by default; build them here, so that a step's time is its own
            self.unit_names = sorted({'test-' + n for n in re.findall(r'[\w-]+$', tests, re.M)})
            code, out, more = self.sh(['ninja', '-C', self.build, *self.unit_names], 900)
            seconds += more
        self.tally.add('build', int(code == 0), int(code != 0), 0, seconds, out)
        return code == 0

    def clang(self):
        self.whole('clang', [sys.executable, 'tests/clang.py', self.build], 240)

    def cluster(self):
        """A throw-away PostgreSQL for the unit tests: (folder, how to make the URL of a fresh database), or None."""
        room = os.statvfs('/dev/shm') if os.access('/dev/shm', os.W_OK) and 'TMPDIR' not in os.environ else None
        memory = '/dev/shm' if room and room.f_bavail * room.f_frsize > 2 << 30 else None  # its syncs prove nothing here
        folder = os.path.join(tempfile.mkdtemp(prefix='scaidrive-unit-', dir=memory), 'pg')
        os.chmod(os.path.dirname(folder), 0o755)
        code, out, _ = self.sh(['tests/pg_cluster.sh', 'start', folder], 120)
        if code:
            print('     ' + out, flush=True)
            shutil.rmtree(os.path.dirname(folder), ignore_errors=True)
            return None
        url = out.splitlines()[-1]

        def fresh(name):
            subprocess.run([os.path.join(os.environ.get('PG_BIN', '/usr/lib/postgresql/15/bin'), 'createdb'), '-h', folder, '-U', 'scaidrive', name],
                           check=True, stdout=subprocess.DEVNULL)
            return url.replace('///scaidrive?', f'///{name}?')
        return folder, fresh

    def unit(self):
        """Every unit test; those that know both engines get a PostgreSQL database of their own."""
        begin = time.monotonic()
        cluster = self.cluster()
        names = sorted(n for n in os.listdir(self.build) if n.startswith('test-') and os.access(os.path.join(self.build, n), os.X_OK)
                       and os.path.isfile(os.path.join(self.build, n)) and n in self.unit_names)
        both = self.on_both()
        counts, faults = [0, 0, 0], []

        def one(name):
            env = {'MALLOC_PERTURB_': '165'}
            if name in both and cluster:
                env['SCAIDRIVE_TEST_PG'] = cluster[1](re.sub(r'\W', '_', name))
            code, out, seconds = self.sh([os.path.join(self.build, name)], 180, env)
            p, f, s = (sum(map(int, re.findall(r'\[\s+%s\s+\] (\d+) test' % word, out))) for word in ('PASSED', 'FAILED', 'SKIPPED'))
            if code and not f:
                f = 1
            if not code and p + s == 0:
                p = 1
            return name, p, f, s, out, seconds

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for name, p, f, s, out, seconds in pool.map(one, names):
                counts = [a + b for a, b in zip(counts, (p, f, s))]
                if f:
                    faults.append(f'{name} ({seconds:.0f} s)\n{out}')
                with open(os.path.join(self.logs, name + '.log'), 'w') as log:
                    log.write(out)
        if cluster:
            self.sh(['tests/pg_cluster.sh', 'stop', cluster[0]], 60)
            shutil.rmtree(os.path.dirname(cluster[0]), ignore_errors=True)
        else:
            counts[1] += 1
            faults.append('no PostgreSQL for the unit tests')
        self.tally.add('unit tests', *counts, time.monotonic() - begin, '\n'.join(faults))

    @staticmethod
    def on_both():
        """The unit tests that run on PostgreSQL too when they are told where it is."""
        out = set()
        for folder, _, names in os.walk(os.path.join(ROOT, 'src')):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith('_test.c') and re.search('SCAIDRIVE_TEST_PG|RUN_ON_BOTH', open(path, encoding='utf-8').read()):
                    out.add('test-' + os.path.relpath(path, os.path.join(ROOT, 'src'))[:-len('_test.c')].replace('/', '-'))
        return out

    def optimised(self):
        """A build without the sanitizers: its folder, or None."""
        build = self.build + '-sim'
        args = ['--reconfigure', build] if os.path.exists(os.path.join(build, 'build.ninja')) else [build, '--buildtype=debugoptimized']
        code, out, seconds = self.sh(['meson', 'setup', *args], 120)
        if not code:
            code, out, more = self.sh(['ninja', '-C', build, 'sim', 'scaidrived', 'scaidrive', 'reference-model'], 900)
            seconds += more
        if code:
            self.tally.add('optimised build', 0, 1, 0, seconds, out)
        return None if code else build

    def sim(self):
        """The whole-system simulator: optimised, where it runs ten times as many schedules, and a few with the sanitizers."""
        build = self.optimised()
        if not build:
            return
        code, out, seconds = self.sh(['ninja', '-C', self.build, 'sim'], 900)
        if code:
            self.tally.add('simulator build', 0, 1, 0, seconds, out)
            return
        fast, slow = os.path.join(build, 'sim'), os.path.join(self.build, 'sim')
        self.whole('sim, failed once', [fast, '--replays', 'tests/sim/regressions.txt'], 120)
        self.whole('sim', [fast, '--first', '10000001', '--seeds', '1500', '--jobs', '2'], 300)
        self.whole('sim, clocks behind', [fast, '--first', '20000001', '--seeds', '500', '--jobs', '2'], 300)
        self.whole('sim with sanitizers', [slow, '--first', '1000001', '--seeds', '100', '--jobs', '2'], 200)

    def api_parts(self, engine):
        """The black-box tests on an engine, as two tasks that may run side by side: each takes the next file that the other has
        not taken. On SQLite with the sanitizers. On PostgreSQL without: what differs there is db_postgres.c, which unit tests
        run with them."""
        build = self.optimised() if engine == 'postgresql' else self.build
        if not build:
            return []
        step, taken, done, lock = 'api on ' + engine, tempfile.mkdtemp(prefix='taken-', dir=self.logs), [], threading.Lock()
        env = {'SCAIDRIVE_TEST_DB': engine, 'SCAIDRIVE_TEST_TAKEN': taken, 'SCAIDRIVED': os.path.join(build, 'scaidrived'),
               'SCAIDRIVE_CLIENT': os.path.join(build, 'scaidrive'), 'SCAIDRIVE_BUILD': build}

        def part(number):
            result = self.run_pytest(f'{step} {number}', 'tests/api', timeout=900, env=env)
            with lock:
                done.append(result)
                if len(done) < 2:
                    return
            passed, failed, skipped, seconds = (sum(r[i] for r in done) for i in range(4))
            text = '\n'.join(r[4] for r in done if r[1])
            if not failed:
                with open(os.path.join(taken, 'collected')) as f:
                    collected = int(f.read())
                if passed + skipped != collected:
                    failed, text = 1, f'{collected} tests were collected, {passed + skipped} ran'
            shutil.rmtree(taken)
            self.tally.add(step, passed, failed, skipped, seconds, text)
        return [(step, part, 1), (step, part, 2)]

    def interop(self):
        folder = os.path.join(ROOT, 'tests', 'interop')
        if os.path.exists(os.path.join(folder, 'conftest.py')):
            seeds = os.environ.get('SCAIDRIVE_SEEDS', os.path.join(ROOT, '..', 'shared', 'seeds'))
            if os.path.isdir(seeds) and shutil.which('npm') and not os.path.exists(os.path.join(folder, 'node_modules', '.bin', 'esbuild')):
                code, out, _ = self.sh(['npm', 'ci', '--no-audit', '--no-fund'], 120, cwd=folder)
                if code:  # the samples in TypeScript are skipped, and say so
                    print('     npm ci: ' + out.strip()[-500:], flush=True)
            self.pytest('interop', 'tests/interop', timeout=240)

    def crash(self, name, *args):
        path = os.path.join('tests', 'crash', name)
        self.whole(name[:-3].replace('_', ' '), [sys.executable, path, '--build', os.path.relpath(self.build, ROOT), *args], 240)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--build', default='build-test')
    p.add_argument('--only', action='append', choices=STEPS)
    args = p.parse_args()
    steps = Steps(args.build)
    os.makedirs(steps.logs, exist_ok=True)
    wanted = args.only or STEPS
    begin = time.monotonic()
    if 'checks' in wanted:
        steps.checks()
    if wanted == ['checks'] or steps.compile():
        if 'clang' in wanted:
            steps.clang()
        if 'unit' in wanted:
            steps.unit()
        if 'sim' in wanted:
            steps.guarded('sim', steps.sim)
        tasks = []
        for engine in ('sqlite', 'postgresql'):
            if engine in wanted:
                tasks += steps.api_parts(engine)
        if 'crash' in wanted:
            tasks += [('crash', steps.crash, 'clients.py', '--seconds', '30'), ('crash', steps.crash, 'full_disk.py', '--rounds', '2'),
                      ('crash', steps.crash, 'each_call.py', '--sample', '40'),
                      ('crash', steps.crash, 'each_call.py', '--fault', 'eio', '--sample', '20'),
                      ('crash', steps.crash, 'restore.py', '--rounds', '3'), ('crash', steps.crash, 'kill_server.py', '--rounds', '6')]
        if 'interop' in wanted:
            tasks.append(('interop', steps.interop))
        # More at a time than processors, the long ones first: they mostly wait for disks and timers.
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for name, task, *args in tasks:
                pool.submit(steps.guarded, name, task, *args)
    t = steps.tally
    print(f'in {time.monotonic() - begin:.0f} s; logs in {os.path.relpath(steps.logs, ROOT)}')
    print(f'{t.passed} passed, {t.failed} failed' + (f', {t.skipped} skipped' if t.skipped else ''), flush=True)
    return 1 if t.failed or not t.passed else 0


if __name__ == '__main__':
    if not shutil.which('meson'):
        sys.exit('meson is missing: run ./test, which installs what is needed')
    sys.exit(main())
