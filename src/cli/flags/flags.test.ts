import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import { checkConfig } from '../../daemon/index.ts';
import type { Flag, FlagSet } from './flag.ts';
import { formatFlagHelp } from './help.ts';
import { parseArguments } from './parse.ts';
import { SERVER_FLAGS, SINGLE_NODE_FLAGS, toDaemonConfig } from './server-flags.ts';

function parse(argv: readonly string[], environment: Record<string, string> = {}) {
  return parseArguments(SINGLE_NODE_FLAGS, { argv, environment });
}

/** Texts that a flag may be given, good and bad. */
function textsOf(flag: Flag<unknown>): fc.Arbitrary<string> {
  if (flag.placeholder === undefined) return fc.constantFrom('true', 'false', 'on', '0', 'maybe');
  const good: Record<string, string[]> = {
    'HOST:PORT': ['localhost:1', '[::1]:26257', ':0', 'db.example.com', '127.0.0.1:99999', 'a b'],
    'KEY=VALUE,...': ['region=eu', 'region=eu,zone=a', 'region', 'a=b,a=c'],
    COUNT: ['0', '3', '-1', '1e3', '65'],
    SEVERITY: ['info', 'none', 'loud'],
    DIR: ['/tmp/x', 'relative/dir', 'disabled'],
    FILE: ['/tmp/x', './y'],
  };
  return fc.constantFrom(...(good[flag.placeholder] ?? ['text']));
}

test('a flag and its environment variable say the same', () => {
  const flags: readonly Flag<unknown>[] = Object.values(SINGLE_NODE_FLAGS as FlagSet);
  const pairs = fc
    .constantFrom(...flags.filter((flag) => flag.variable !== undefined))
    .chain((flag) => textsOf(flag).map((text) => ({ flag, text })));
  fc.assert(
    fc.property(fc.array(pairs, { maxLength: 5 }), (choices) => {
      const chosen = new Map(choices.map((choice) => [choice.flag.name, choice]));
      const argv = [...chosen.values()].map(({ flag, text }) => `--${flag.name}=${text}`);
      const environment = Object.fromEntries(
        [...chosen.values()].map(({ flag, text }) => [String(flag.variable), text]),
      );
      assert.deepEqual(
        outcome(() => parse(argv).flags),
        outcome(() => parse([], environment).flags),
      );
    }),
  );
});

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    assert.ok(isAppError(error, 'usage'));
    return 'refused';
  }
}

test('the command line wins over the environment, which wins over the default', () => {
  const environment = { ATOLL_LISTEN_ADDR: 'localhost:2', ATOLL_HTTP_ADDR: '' };
  assert.deepEqual(parse(['--listen-addr', 'localhost:1'], environment).flags.listen.port, 1);
  assert.deepEqual(parse([], environment).flags.listen.port, 2);
  assert.deepEqual(parse([], environment).flags.http, { host: 'localhost', port: 8080 });
  assert.equal(parse(['--insecure=false'], { ATOLL_INSECURE: 'true' }).flags.insecure, false);
});

test('mistakes are named, with what was probably meant', () => {
  const cases: [string[], RegExp, RegExp | undefined][] = [
    [['--listen-adr=x'], /unknown flag: --listen-adr/, /did you mean --listen-addr\?/],
    [['--backgr'], /unknown flag: --backgr/, /did you mean --background\?/],
    [['--zzz'], /unknown flag: --zzz/, /see --help/],
    [['--store'], /--store needs a value/, /write --store=DIR/],
    [['--listen-addr', 'nonsense:x'], /invalid value for --listen-addr: not an address/, /localhost:26257/],
    [['--log-to-stderr=loud'], /invalid value for --log-to-stderr/, /info, warning, error, none/],
    [['--insecure=perhaps'], /invalid value for --insecure/, /true or false/],
  ];
  for (const [argv, message, hint] of cases) {
    assert.throws(
      () => parse(argv),
      (error) => {
        assert.ok(isAppError(error, 'usage'), String(error));
        assert.match(error.message, message);
        if (hint !== undefined) assert.match(error.hint ?? '', hint);
        assert.equal(error.row.exit, 64);
        return true;
      },
    );
  }
  assert.throws(
    () => parse([], { ATOLL_LISTEN_ADDR: ':x' }),
    /invalid value for --listen-addr.*\(from ATOLL_LISTEN_ADDR\)/,
  );
});

test('addresses are read in every usual form', () => {
  const read = (text: string) => parse(['--listen-addr', text]).flags.listen;
  assert.deepEqual(read('[::1]:5'), { host: '::1', port: 5 });
  assert.deepEqual(read(':5'), { host: '', port: 5 });
  assert.deepEqual(read('db'), { host: 'db', port: 26257 });
  for (const bad of ['', 'a:b', 'a:70000', 'http://a', 'a:1:2']) assert.throws(() => read(bad));
});

test('an insecure node keeps to loopback unless told otherwise', () => {
  const config = (argv: string[]) => toDaemonConfig(parse(argv).flags, { firstStart: 'virtualized' });
  checkConfig(config(['--insecure']));
  checkConfig(config(['--insecure', '--listen-addr=127.0.0.5:1', '--http-addr=[::1]:0']));
  checkConfig(config(['--listen-addr=:26257', '--accept-sql-without-tls']));
  checkConfig(config(['--listen-addr=:26257', '--certs-dir=certs']));
  assert.throws(() => checkConfig(config(['--listen-addr=:26257'])), /everything unencrypted/);
  assert.throws(() => checkConfig(config(['--insecure', '--certs-dir=certs'])), /exclude each other/);
  checkConfig(config(['--insecure', '--listen-addr=:26257', '--accept-insecure-network']));
  for (const flag of [
    '--listen-addr=:26257',
    '--http-addr=0.0.0.0:8080',
    '--listen-addr=127.0.0.1.evil.com',
  ]) {
    assert.throws(() => checkConfig(config(['--insecure', flag])), /full control/);
  }
});

test('names in certificates are mapped to users', () => {
  const read = (text: string) => parse(['--cert-principal-map', text]).flags.certPrincipalMap;
  assert.deepEqual(
    read('a:b, a:c,urn:x:d'),
    new Map([
      ['a', ['b', 'c']],
      ['urn:x', ['d']],
    ]),
  );
  for (const bad of ['', 'a', 'a:', ':b', 'a:b,'])
    assert.throws(() => read(bad), /not a map of principals|needs a value/);
});

test('help lists every flag with its variable and default', () => {
  const help = formatFlagHelp(SERVER_FLAGS);
  for (const flag of Object.values(SERVER_FLAGS as FlagSet)) assert.ok(help.includes(`--${flag.name}`));
  assert.match(
    help,
    /--listen-addr HOST:PORT\n {10}Address .*\n {10}\[default localhost:26257; environment ATOLL_LISTEN_ADDR\]\n/,
  );
  for (const line of help.split('\n')) assert.ok(line.length <= 100);
  assert.equal(parse(['--help', '--store']).wantsHelp, true);
});
