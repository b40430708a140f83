/** Replication from a primary that takes encrypted connections alone. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { TestAuthority, writeCertificates } from '../harness/certificates.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };
const PASSWORD = 's3cret-of-the-stream';

describe('replication over TLS', () => {
  let directory: string;
  let authority: TestAuthority;
  let other: TestAuthority;
  let primary: TestDaemon;
  let standby: TestDaemon;

  const file = (name: string) => join(directory, name);

  before(async () => {
    directory = await scratchDirectory('atoll-tls-');
    [authority, other] = [await TestAuthority.make(), await TestAuthority.make()];
    await writeCertificates(directory, {
      'ca.crt': authority.certificate,
      'other-ca.crt': other.certificate,
      node: await authority.node(['localhost']),
      'client.root': await authority.client('root'),
      'client.replicator': await authority.client('replicator'),
    });
    primary = await TestDaemon.start({ security: 'password', flags: [`--certs-dir=${directory}`] });
    standby = await TestDaemon.start({ flags: ['--virtualized-empty'] });
    await asRoot('system', [
      `CREATE USER replicator WITH PASSWORD '${PASSWORD}'`,
      'GRANT SYSTEM REPLICATION TO replicator',
    ]);
    await asRoot('main', [`CREATE TABLE diary AS SELECT 'over the wire' AS what`]);
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  async function asRoot(cluster: string, statements: readonly string[]): Promise<void> {
    const { certificate, key } = await authority.client('root');
    const client = new pg.Client({
      host: 'localhost',
      port: primary.port,
      user: 'root',
      database: 'defaultdb',
      options: `-ccluster=${cluster}`,
      ssl: { ca: authority.certificate, cert: certificate, key },
    });
    await client.connect();
    for (const statement of statements) await client.query(statement);
    await client.end();
  }

  const uri = (
    parameters: Readonly<Record<string, string>>,
    options: { host?: string; user?: string } = {},
  ) => {
    const { host = 'localhost', user = `replicator:${PASSWORD}` } = options;
    const query = new URLSearchParams({ options: '-ccluster=system', ...parameters });
    return `postgresql://${user}@${host}:${primary.port}/defaultdb?${String(query)}`;
  };
  const create = (name: string, source: string) =>
    standby.query(`CREATE VIRTUAL CLUSTER ${name} FROM REPLICATION OF main ON '${source}'`, SYSTEM);
  const whenIn = (name: string, state: string) =>
    waitFor(`${name} to be "${state}"`, async () => {
      const show = `SHOW VIRTUAL CLUSTER ${name} WITH REPLICATION STATUS`;
      const [row] = await standby.query(show, SYSTEM);
      return row?.['status'] === state;
    });

  it('is refused when the certificate does not do, or what is asked for is not there', async () => {
    const root = { sslrootcert: file('ca.crt') };
    const refused: readonly (readonly [string, string])[] = [
      [uri({ sslmode: 'disable' }), '28000'],
      [uri({ sslmode: 'verify-full', sslrootcert: file('other-ca.crt') }), '08006'],
      [uri({ sslmode: 'require', sslrootcert: file('other-ca.crt') }), '08006'],
      [uri({ sslmode: 'verify-full', ...root }, { host: '127.0.0.1' }), '08006'],
      [uri({ sslmode: 'require' }).replace(`:${primary.port}`, `:${standby.port}`), '08006'],
      [uri({ sslmode: 'require' }, { user: 'replicator:wrong' }), '28P01'],
      [uri({ sslmode: 'require' }, { user: `nobody:${PASSWORD}` }), '28P01'],
      [uri({ sslmode: 'verify-full' }), '22023'],
      [uri({ sslmode: 'verify-full', sslrootcert: file('none.crt') }), '22023'],
      [uri({ sslmode: 'verify-full', ...root, sslcert: file('client.root.crt') }), '22023'],
    ];
    for (const [source, code] of refused) {
      await assert.rejects(create('main', source), { code }, source);
    }
    const shown = await standby.query('SHOW VIRTUAL CLUSTERS', SYSTEM);
    assert.deepEqual(
      shown.map((row) => row['name']),
      ['system'],
    );
  });

  const accepted: Readonly<Record<string, () => string>> = {
    'inline-ca': () => uri({ sslmode: 'verify-full', sslinline: 'true', sslrootcert: authority.certificate }),
    'client-certificate': () =>
      uri(
        {
          sslmode: 'verify-ca',
          sslrootcert: file('ca.crt'),
          sslcert: file('client.replicator.crt'),
          sslkey: file('client.replicator.key'),
        },
        { host: '127.0.0.1', user: 'replicator' },
      ),
    unverified: () => uri({ sslmode: 'require' }),
    'not-asked-for': () => uri({}),
  };

  for (const [name, source] of Object.entries(accepted)) {
    it(`follows with what is verified: ${name}`, async () => {
      await create(name, source());
      await whenIn(name, 'replicating');
      await standby.query(`ALTER VIRTUAL CLUSTER ${name} COMPLETE REPLICATION TO LATEST`, SYSTEM);
      await whenIn(name, 'ready');
      await standby.query(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`, SYSTEM);
      const rows = await standby.query('SELECT what FROM diary', { cluster: name });
      assert.deepEqual(rows, [{ what: 'over the wire' }]);
      await standby.query(
        [`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`, `DROP VIRTUAL CLUSTER ${name} IMMEDIATE`],
        SYSTEM,
      );
    });
  }

  it('tells no secret anywhere', () => {
    for (const { output } of [primary, standby]) assert.doesNotMatch(output, /s3cret|PRIVATE KEY/);
  });
});
