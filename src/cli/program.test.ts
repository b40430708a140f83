import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { AppError } from '../base/index.ts';
import type { NodeReport } from '../daemon/index.ts';
import { defineCommand } from './command.ts';
import { initCommand } from './commands/init.ts';
import { sqlCommand } from './commands/sql.ts';
import { startCommand, startSingleNodeCommand } from './commands/start.ts';
import { versionCommand } from './commands/version.ts';
import { switchFlag } from './flags/flag.ts';
import { runProgram } from './program.ts';
import { formatSummary } from './summary.ts';

const failing = defineCommand({
  name: 'fail',
  usage: '[--bug]',
  description: ['Fails.'],
  examples: [],
  flags: { bug: switchFlag({ name: 'bug', help: 'As a bug.' }) },
  positionalsMax: 0,
  async run({ bug }) {
    if (bug) throw new TypeError('broken');
    throw new AppError('store_in_use', 'store /s is in use by process 5', {
      hint: 'stop it',
      detail: 'really',
    });
  },
});

async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const commands = [startSingleNodeCommand, startCommand, initCommand, sqlCommand, versionCommand, failing];
  const code = await runProgram(
    commands.map((command) => ({
      name: command.name,
      summary: `${command.name} it`,
      load: async () => command,
    })),
    {
      argv,
      environment: {},
      stdin: Readable.from([]),
      stdout,
      stderr,
    },
  );
  const text = (stream: PassThrough) => String(stream.read() ?? '');
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

test('help is given where it is asked for', async () => {
  const help = await run('--help');
  assert.equal(help.code, 0);
  assert.match(help.stdout, /start-single-node {2}start-single-node it\n/);
  assert.equal((await run()).code, 64);
  for (const argv of [
    ['sql', '--help'],
    ['help', 'sql'],
    ['sql', '-h'],
  ]) {
    const { code, stdout } = await run(...argv);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: atoll sql \[flags\]\n/);
  }
  assert.match(
    (await run('--version')).stdout,
    /^Atoll +\d+\.\d+\.\d+\nPostgreSQL +18\.\d\S*\nNode\.js +24\.\S+\nPlatform +\w+-\w+\n$/,
  );
});

test('what goes wrong has a line, a hint and an exit code', async () => {
  assert.deepEqual(await run('sqll'), {
    code: 64,
    stdout: '',
    stderr: 'atoll: unknown command: "sqll"\n  hint: did you mean atoll sql?\n',
  });
  for (const [typed, meant] of [
    ['strat', 'start'],
    ['tsart', 'start'],
    ['sart', 'start'],
    ['verison', 'version'],
  ] as const) {
    assert.ok((await run(typed)).stderr.endsWith(`hint: did you mean atoll ${meant}?\n`), typed);
  }
  assert.ok((await run('tables')).stderr.endsWith('hint: see atoll --help\n'));
  assert.deepEqual(await run('version', 'extra'), {
    code: 64,
    stdout: '',
    stderr: 'atoll: unexpected argument: "extra"\n  hint: see atoll version --help\n',
  });
  assert.deepEqual(await run('fail'), {
    code: 73,
    stdout: '',
    stderr: 'atoll: store /s is in use by process 5\n  really\n  hint: stop it\n',
  });
  const bug = await run('fail', '--bug');
  assert.equal(bug.code, 70);
  assert.match(bug.stderr, /^atoll: internal error, please report it\nTypeError: broken\n/);
  const tls = await run('start', '--certs-dir=/nowhere');
  assert.equal(tls.code, 64);
  assert.match(tls.stderr, /there is no \/nowhere\/ca\.crt\n {2}hint: make certificates with atoll cert/);
  const network = await run('start-single-node', '--insecure', '--listen-addr=0.0.0.0:1');
  assert.equal(network.code, 64);
  assert.match(network.stderr, /--accept-insecure-network/);
});

test('flags of the client that contradict each other are refused', async () => {
  for (const argv of [
    ['sql', '--url=postgresql://h', '--host=h'],
    ['sql', '--store=/s', '--url=postgresql://h'],
    ['sql', '--url=postgresql://h', '--port=5'],
  ]) {
    const { code, stderr } = await run(...argv);
    assert.equal(code, 64);
    assert.match(stderr, /exclude each other/);
  }
  const { code, stderr } = await run('sql', '--host=127.0.0.1:1', '-e', 'select 1');
  assert.equal(code, 75);
  assert.match(stderr, /cannot connect to 127\.0\.0\.1:1: .*ECONNREFUSED/);
});

const REPORT: NodeReport = {
  processId: 4711,
  release: '26.2',
  store: '/var/lib/my atoll',
  isNewStore: true,
  isInsecure: false,
  certificatesDirectory: null,
  isInitialized: true,
  defaultTarget: 'main',
  sql: { host: 'localhost', port: 26257 },
  http: { host: '::1', port: 8080 },
  socketDirectory: '/var/lib/my atoll/run/sql',
  logFile: '/var/lib/my atoll/logs/atoll.log',
};

test('a node that is up says what runs and what to do next', () => {
  assert.equal(
    formatSummary(REPORT),
    `Atoll 26.2 is running.

  store    /var/lib/my atoll (new)
  SQL      postgresql://root@localhost:26257/defaultdb
  system   postgresql://root@localhost:26257/defaultdb?options=-ccluster%3Dsystem
  HTTP     http://[::1]:8080
  socket   /var/lib/my atoll/run/sql (needs no password)
  log      /var/lib/my atoll/logs/atoll.log
  process  4711

  atoll sql --store '/var/lib/my atoll'                              # nobody has a password yet: in the shell, \\password sets that of root
  atoll sql --store '/var/lib/my atoll' -d cluster:system/defaultdb  # CREATE VIRTUAL CLUSTER, BACKUP, ...: \\h lists them
`,
  );
  const waiting = formatSummary({ ...REPORT, isInitialized: false, store: '/s' });
  assert.match(waiting, /waits to be initialised/);
  assert.match(waiting, / atoll init --store \/s --virtualized +# an app virtual cluster/);
  assert.match(formatSummary({ ...REPORT, isInsecure: true }), /is running, insecure: no passwords\./);
});
