import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import pg from 'pg';
import { TestAuthority, writeCertificates } from '../../test/harness/certificates.ts';
import { ATOLL, TestDaemon } from '../../test/harness/daemon.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { encodeSslRequest } from '../pg/index.ts';
import { RawClient } from '../../test/harness/raw-client.ts';

/** So many that each process that shares the port has had one, but by a miracle: (1/2)^20. */
const ATTEMPTS = 20;

describe('a node with certificates', {
  skip: process.platform === 'linux' ? false : 'relay processes share a port on Linux only',
}, () => {
  let directory: string;
  let certs: string;
  let authority: TestAuthority;
  let daemon: TestDaemon;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'atoll-certs-'));
    certs = join(directory, 'certs');
    authority = await TestAuthority.make();
    await writeCertificates(certs, {
      'ca.crt': authority.certificate,
      node: await authority.node(),
      'client.root': await authority.client('root'),
    });
    daemon = await TestDaemon.start({
      security: 'password',
      flags: [`--certs-dir=${certs}`, '--relay-processes=1'],
    });
  });
  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** The certificate that a new SQL connection is shown. */
  async function shownBySql(): Promise<string | undefined> {
    const client = await RawClient.connect({ host: '127.0.0.1', port: daemon.port });
    client.send(encodeSslRequest());
    await waitFor('the answer', () => client.received.toString() === 'S');
    client.socket.removeAllListeners('data');
    const socket = connectTls({ socket: client.socket, ca: authority.certificate, servername: 'localhost' });
    await once(socket, 'secureConnect');
    const fingerprint = socket.getPeerX509Certificate()?.fingerprint256;
    socket.destroy();
    return fingerprint;
  }

  async function shownToBrowsers(): Promise<{ fingerprint: string | undefined; status: number | undefined }> {
    const port = Number(/HTTP +https:\/\/127\.0\.0\.1:(\d+)/.exec(daemon.output)?.[1]);
    return await new Promise((resolve, reject) => {
      const request = get(
        { host: '127.0.0.1', port, path: '/health', ca: authority.certificate, agent: false },
        (response) => {
          const { socket } = response;
          const fingerprint =
            'getPeerX509Certificate' in socket
              ? (socket as TLSSocket).getPeerX509Certificate()?.fingerprint256
              : undefined;
          response.resume();
          resolve({ fingerprint, status: response.statusCode });
        },
      );
      request.on('error', reject);
    });
  }

  const log = () => readFileSync(join(daemon.store, 'logs/atoll.log'), 'utf8');

  test('users log in by certificate, also in the system virtual cluster, by every process', async () => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const client = new pg.Client({
        host: 'localhost',
        port: daemon.port,
        user: 'root',
        database: 'defaultdb',
        options: `-ccluster=${attempt % 2 === 0 ? 'system' : 'main'}`,
        ssl: {
          ca: authority.certificate,
          cert: readFileSync(join(certs, 'client.root.crt')),
          key: readFileSync(join(certs, 'client.root.key')),
        },
      });
      await client.connect();
      assert.deepEqual((await client.query('SELECT current_user AS u')).rows, [{ u: 'root' }]);
      await client.end();
    }
    await assert.rejects(daemon.connect(), { code: '28000' }); // It does not encrypt.
  });

  test('atoll sql takes the folder of certificates', () => {
    const url = `postgresql://root@localhost:${daemon.port}/defaultdb?options=-ccluster=system&sslmode=verify-full`;
    const query = 'SELECT name FROM [SHOW VIRTUAL CLUSTERS] ORDER BY name';
    const shell = spawnSync(ATOLL, ['sql', '--url', url, '--certs-dir', certs, '-e', query], {
      encoding: 'utf8',
    });
    assert.equal(shell.status, 0, shell.stderr);
    assert.match(shell.stdout, /main[\s\S]*system/);
    assert.match(daemon.output, /SQL +postgresql:\/\/\S+\?sslmode=verify-full&sslrootcert=\S+ca\.crt/);
  });

  test('HTTP is encrypted', async () => {
    assert.equal((await shownToBrowsers()).status, 200);
    const port = Number(/HTTP +https:\/\/127\.0\.0\.1:(\d+)/.exec(daemon.output)?.[1]);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/health`));
  });

  test('SIGHUP reads the certificates again; those that do not fit change nothing', async () => {
    const former = await shownBySql();
    assert.equal((await shownToBrowsers()).fingerprint, former);
    const next = join(directory, 'next');
    await writeCertificates(next, { node: await authority.node() });
    renameSync(join(next, 'node.crt'), join(certs, 'node.crt')); // The key is still the former one.
    process.kill(daemon.pid, 'SIGHUP');
    await waitFor('the refusal', () =>
      /certificates were not read again[\s\S]*node\.key is not the key/.test(log()),
    );
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) assert.equal(await shownBySql(), former);

    renameSync(join(next, 'node.key'), join(certs, 'node.key'));
    process.kill(daemon.pid, 'SIGHUP');
    await waitFor('the new certificate everywhere', async () => {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1)
        if ((await shownBySql()) === former) return false;
      return true;
    });
    const now = await shownBySql();
    assert.equal((await shownToBrowsers()).fingerprint, now);
    assert.notEqual(now, former);
  });

  test('one that lacks them, or whose keys others may read, does not start, and says what to do', () => {
    const start = (folder: string) => {
      const flags = ['--listen-addr=127.0.0.1:0', '--http-addr=127.0.0.1:0', `--certs-dir=${folder}`];
      const store = `--store=${join(directory, 'store')}`;
      return spawnSync(ATOLL, ['start-single-node', store, ...flags], { encoding: 'utf8' });
    };
    const missing = start(join(directory, 'nowhere'));
    assert.equal(missing.status, 64);
    assert.match(
      missing.stderr,
      /there is no .*ca\.crt[\s\S]*hint: make certificates with atoll cert create-ca/,
    );
    const open = join(directory, 'open');
    mkdirSync(open);
    for (const name of ['ca.crt', 'node.crt', 'node.key']) copyFileSync(join(certs, name), join(open, name));
    chmodSync(join(open, 'node.key'), 0o644);
    const refused = start(open);
    assert.equal(refused.status, 64);
    assert.match(refused.stderr, /others may read the key[\s\S]*hint: chmod 0600/);
  });
});
