import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ATOLL, TestDaemon } from '../../../test/harness/daemon.ts';
import { waitFor } from '../../../test/harness/wait.ts';

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const home = mkdtempSync(join(tmpdir(), 'atoll-shell-'));

class Started {
  readonly child: ChildProcessWithoutNullStreams;
  stdout = '';
  stderr = '';

  constructor(program: string, argv: readonly string[]) {
    const environment = { ...process.env, HOME: home, TERM: 'xterm', PGPASSWORD: '' };
    this.child = spawn(program, argv, { stdio: 'pipe', env: environment });
    this.child.stdout.on('data', (chunk: Buffer) => (this.stdout += String(chunk)));
    this.child.stderr.on('data', (chunk: Buffer) => (this.stderr += String(chunk)));
    this.child.stdin.on('error', () => undefined); // The program may end before it has read everything.
  }

  async ended(): Promise<Ended> {
    const [code, signal] = (await once(this.child, 'close')) as [number | null, NodeJS.Signals | null];
    return { code, signal, stdout: this.stdout, stderr: this.stderr };
  }
}

describe('the SQL shell', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
    await daemon.query([
      'CREATE TABLE accounts (id int8 PRIMARY KEY, name text NOT NULL, balance numeric(10, 2) CHECK (balance >= 0))',
      `INSERT INTO accounts VALUES (1, 'carl', 10), (2, '日本', NULL)`,
      'CREATE TABLE transfers (id int4 PRIMARY KEY, account int8 REFERENCES accounts)',
    ]);
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    rmSync(home, { recursive: true, force: true });
  });

  const start = (...argv: string[]) => new Started(ATOLL, ['sql', `--url=${daemon.url()}`, ...argv]);
  const run = async (options: { argv?: string[]; stdin?: string }): Promise<Ended> => {
    const shell = start(...(options.argv ?? []));
    shell.child.stdin.end(options.stdin ?? '');
    return await shell.ended();
  };

  test('runs statements and shows their results', async () => {
    const { code, stdout, stderr } = await run({
      argv: [
        '--format=table',
        '-e',
        'TABLE accounts',
        '-e',
        "UPDATE accounts SET name = 'karl' WHERE id = 1; SELECT 1 AS one",
      ],
    });
    assert.equal(
      stdout,
      ` id | name | balance
----+------+---------
  1 | carl |   10.00
  2 | 日本 |    NULL
(2 rows)
UPDATE 1
 one
-----
   1
(1 row)
`,
    );
    assert.deepEqual([code, stderr], [0, '']);
  });

  test('an error is told with its place and code, and ends a batch', async () => {
    const { code, stdout, stderr } = await run({
      argv: ['-e', 'SELECT nam FROM accounts', '-e', 'SELECT 2'],
    });
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(
      stderr,
      /^ERROR: column "nam" does not exist\nLINE 1: SELECT nam FROM accounts\n {15}\^\nSQLSTATE: 42703\nHINT: /,
    );
    const script = await run({ stdin: 'SELECT 1;\nSELECT 1/0;\nSELECT 3;\n' });
    assert.deepEqual([script.code, script.stdout], [1, '?column?\n1\n']);
    assert.match(script.stderr, /^ERROR: division by zero\nSQLSTATE: 22012\n/);
  });

  test("Atoll's own statements work and are helped with", async () => {
    const system = daemon.url({ cluster: 'system' });
    const own = new Started(ATOLL, [
      'sql',
      `--url=${system}`,
      '--format=csv',
      '-e',
      'SHOW VIRTUAL CLUSTER main',
    ]);
    assert.equal((await own.ended()).stdout, 'id,name,data_state,service_mode\n3,main,ready,shared\n');
    const { stdout } = await run({ argv: ['-e', '\\h show virtual'] });
    assert.match(stdout, /^SHOW VIRTUAL CLUSTERS: .*\n\n {2}SHOW VIRTUAL CLUSTERS/);
    const all = await run({ argv: ['-e', '\\h'] });
    assert.match(all.stdout, /^ {2}SHOW CREATE EXTERNAL CONNECTION {2}the statement/m);
    const refused = await run({ argv: ['-e', 'CREATE VIRTUAL CLUSTER x'] });
    assert.match(refused.stderr, /^ERROR: .*\nSQLSTATE: 42501\nHINT: .*system/);
  });

  test('COPY goes both ways, with data in the script or from standard input', async () => {
    const { code, stdout } = await run({
      stdin:
        'CREATE TEMP TABLE c (a int, b text);\nCOPY c FROM STDIN;\n1\tone\n2\t\\N\n\\.\nCOPY c TO STDOUT;\nSELECT count(*) FROM c;\n',
    });
    assert.deepEqual([code, stdout], [0, '1\tone\n2\t\\N\ncount\n2\n']);
    const fed = await run({
      argv: ['-e', 'CREATE TEMP TABLE c (a int)', '-e', 'COPY c FROM STDIN', '-e', 'SELECT sum(a) FROM c'],
      stdin: '1\n2\n39\n',
    });
    assert.deepEqual([fed.code, fed.stdout], [0, 'sum\n42\n']);
    const broken = await run({
      stdin: 'CREATE TEMP TABLE c (a int);\nCOPY c FROM STDIN;\nx\n\\.\nSELECT 1;\n',
    });
    assert.equal(broken.code, 1);
    assert.match(broken.stderr, /invalid input syntax for type integer/);
  });

  test('results of any length pass', async () => {
    const { stdout } = await run({
      argv: ['--format=csv', '-e', 'SELECT i FROM generate_series(1, 200000) i'],
    });
    const lines = stdout.trimEnd().split('\n');
    assert.equal(lines.length, 200_001);
    assert.equal(lines.at(-1), '200000');
  });

  test('a reader that has seen enough ends it quietly', async () => {
    const command = `"${ATOLL}" sql --url "${daemon.url()}" -e "SELECT i FROM generate_series(1, 1000000) i" | head -n 2`;
    const { stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    assert.deepEqual([stdout, stderr], ['i\n1\n', '']);
  });

  test('an interrupt cancels the running statement', async () => {
    const shell = start('-e', 'SELECT pg_sleep(600) AS wait_for_me');
    await waitFor('the statement to run', async () => {
      const rows = await daemon.query(
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%wait\\_for\\_me' AND state = 'active'",
      );
      return rows.length > 0;
    });
    shell.child.kill('SIGINT');
    const { code, stderr } = await shell.ended();
    assert.equal(code, 1);
    assert.match(stderr, /^ERROR: canceling statement due to user request\nSQLSTATE: 57014\n/);
  });

  test('notices are shown beside the results', async () => {
    const { stdout, stderr } = await run({
      argv: ['-e', "DO $$ BEGIN RAISE NOTICE 'hello'; END $$", '-e', 'SELECT 1'],
    });
    assert.deepEqual([stdout, stderr], ['?column?\n1\n', 'NOTICE: hello\n']);
  });

  test('relations are described', async () => {
    const { stdout } = await run({ argv: ['--format=table', '-e', '\\d accounts'] });
    assert.equal(
      stdout,
      `           Table "public.accounts"
 Column  |     Type      | Nullable | Default
---------+---------------+----------+---------
 id      | bigint        | not null |
 name    | text          | not null |
 balance | numeric(10,2) |          |
Indexes:
    "accounts_pkey" PRIMARY KEY, btree (id)
Check constraints:
    "accounts_balance_check" CHECK ((balance >= (0)::numeric))
Referenced by:
    TABLE transfers CONSTRAINT "transfers_account_fkey" FOREIGN KEY (account) REFERENCES accounts(id)

`,
    );
    for (const [command, expected] of [
      ['\\dt', 'transfers'],
      ['\\di acc*', 'accounts_pkey'],
      ['\\dn', 'public'],
      ['\\du root', 'root'],
      ['\\l', 'defaultdb'],
      ['\\d', 'accounts'],
      ['\\?', '\\timing'],
      ['\\conninfo', 'of virtual cluster "main" as user "root"'],
    ] as const) {
      const { code, stdout: text, stderr } = await run({ argv: ['-e', command] });
      assert.equal(code, 0, stderr);
      assert.ok(text.includes(expected), `${command}: ${text}`);
    }
  });

  test('files include files, and what they must not do is refused', async () => {
    const file = (name: string, text: string) => {
      writeFileSync(join(home, name), text);
      return join(home, name);
    };
    const inner = file('inner.sql', "SELECT 'inner' AS at");
    const outer = file(
      'outer.sql',
      `\\echo before\n\\i '${inner}'\n\\c postgres\nSELECT current_database();\n`,
    );
    const { code, stdout } = await run({ argv: [`--file=${outer}`] });
    assert.deepEqual([code, stdout], [0, 'before\nat\ninner\ncurrent_database\npostgres\n']);
    const endless = file('endless.sql', `\\i '${join(home, 'endless.sql')}'\n`);
    assert.match((await run({ argv: ['-f', endless] })).stderr, /include each other/);
    for (const [path, reason] of [
      [join(home, 'missing.sql'), /^atoll: cannot read \S+missing\.sql: ENOENT/],
      [home, /^atoll: cannot read \S+: EISDIR/],
    ] as const) {
      const unread = await run({ argv: ['-f', path] });
      assert.match(unread.stderr, reason);
      assert.equal(unread.code, 74);
    }
    const included = await run({ stdin: `\\i '${join(home, 'missing.sql')}'\n` });
    assert.match(included.stderr, /^ERROR: cannot read \S+missing\.sql: ENOENT/);
    assert.match((await run({ stdin: '\\! id\n' })).stderr, /\\! is not offered/);
    const restricted = await run({ stdin: '\\restrict key\n\\o /tmp/x\n' });
    assert.match(restricted.stderr, /does not work between/);
    assert.equal((await run({ stdin: '\\restrict key\nSELECT 1;\n\\unrestrict key\n\\echo on\n' })).code, 0);
  });

  test('results go to a file and back', async () => {
    const path = join(home, 'results');
    const { stdout } = await run({ stdin: `\\o '${path}'\nSELECT 1 AS a;\n\\o\nSELECT 2 AS b;\n` });
    assert.equal(stdout, 'b\n2\n');
    assert.equal(readFileSync(path, 'utf8'), 'a\n1\n');
  });

  test('at a terminal: prompt, editing over lines, history, interrupts', { skip: noTerminal() }, async () => {
    // Some shells stay between the terminal and the program, and would die of its interrupts.
    const command = `exec ${ATOLL} sql --url ${daemon.url()}`;
    const shell = new Started('script', ['-q', '-e', '-c', command, '/dev/null']);
    const prompt = `root@127.0.0.1:${daemon.port}/main/defaultdb`;
    const expectNext = async (text: string) => {
      await waitFor(`"${text}" in ${shell.stdout}`, () => shell.stdout.includes(text));
      shell.stdout = shell.stdout.slice(shell.stdout.indexOf(text) + text.length);
    };
    const type = (text: string) => shell.child.stdin.write(text);
    await expectNext(`${prompt}> `);
    type("SELECT 'a\r");
    await expectNext("'> ");
    type('\u0003');
    await expectNext(`${prompt}> `);
    // A line that was given up is gone: nothing of it is left behind the next one.
    type('DROP TABLE transfers;');
    await expectNext('transfers;');
    type('\u001b[D\u001b[D\u0003');
    await expectNext('^C');
    type('SELECT 1;\r');
    await expectNext('(1 row)');
    await expectNext(`${prompt}> `);
    assert.equal((await daemon.query("SELECT 1 FROM pg_class WHERE relname = 'transfers'")).length, 1);
    type('BEGIN;\r');
    await expectNext(`${prompt} OPEN> `);
    type('SELECT 40 +\r');
    await expectNext('-> ');
    type('2 AS answer;\r');
    await expectNext(' answer');
    await expectNext('42');
    await expectNext('Time: ');
    await expectNext(`${prompt} OPEN> `);
    type('broken;\r');
    await expectNext(`${prompt} ERROR> `);
    type('ROLLBACK;\r');
    await expectNext(`${prompt}> `);
    type("ALTER ROLE root PASSWORD 'secret';\r");
    await expectNext(`${prompt}> `);
    type('SELECT pg_sleep(600);\r');
    await waitFor('the statement to run', async () => {
      const rows = await daemon.query("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600);'");
      return rows.length > 0;
    });
    type('\u0003');
    await expectNext('canceling statement');
    await expectNext(`${prompt}> `);
    type('\\q\r');
    assert.equal((await shell.ended()).code, 0);
    const history = readFileSync(join(home, '.atoll_history'), 'utf8').split('\n');
    assert.ok(history.includes('SELECT 40 + 2 AS answer;'), history.join('\n'));
    assert.ok(!history.some((line) => line.includes('secret')));
  });
});

/** Why there is no terminal to be had, if so. */
function noTerminal(): string | false {
  const { status } = spawnSync('script', ['-q', '-e', '-c', 'true', '/dev/null']);
  return status === 0 ? false : 'needs the program script of util-linux';
}
