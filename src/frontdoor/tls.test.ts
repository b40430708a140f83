import assert from 'node:assert/strict';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import pg from 'pg';
import { type PemPair, TestAuthority, writeCertificates } from '../../test/harness/certificates.ts';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import { runProgram } from '../../test/harness/programs.ts';
import { errorFields, RawClient } from '../../test/harness/raw-client.ts';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { waitFor } from '../../test/harness/wait.ts';
import {
  encodeCancelRequest,
  encodeQuery,
  encodeSslRequest,
  encodeStartup,
  PROTOCOL_3_0,
} from '../pg/index.ts';
import type { FrontDoor } from './front-door.ts';

let bed: TestBed;
let door: FrontDoor;
let authority: TestAuthority;
let alice: PemPair;
let directory: string;

before(async () => {
  bed = await TestBed.start();
  authority = await TestAuthority.make();
  const stranger = await TestAuthority.make();
  alice = await authority.client('alice');
  directory = await scratchDirectory('atoll-tls-');
  await writeCertificates(directory, {
    'ca.crt': authority.certificate,
    'other-ca.crt': stranger.certificate,
    alice,
    expired: await authority.client('alice', { lifetimeMs: -1_000 }),
    stranger: await stranger.client('alice'),
    batch: await authority.client('batch.example.com'),
  });
  door = await bed.open({
    authentication: 'scram',
    tls: {
      material: await authority.material(),
      acceptsPlain: false,
      principals: new Map([['batch.example.com', ['alice']]]),
    },
  });
  const root = await connect(await bed.open());
  await root.query("CREATE ROLE alice LOGIN REPLICATION PASSWORD 'wonder'; CREATE ROLE bob LOGIN");
  await root.end();
  const rows = await bed.instance.withSystemClient(
    (client) => client.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'"),
    { signal: new AbortController().signal },
  );
  const verifier = rows[0]?.['rolpassword'] ?? null;
  bed.service.credentials.set('alice', { canLogin: true, isExpired: false, verifier });
});
after(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

interface PsqlOptions {
  readonly sslmode?: string;
  readonly ca?: string;
  /** Name of a certificate in the folder. */
  readonly certificate?: string;
  readonly password?: string;
  readonly user?: string;
  readonly more?: string;
}

/** What psql prints, its error included. */
async function psql(options: PsqlOptions): Promise<string> {
  const {
    sslmode = 'verify-full',
    ca = 'ca.crt',
    certificate,
    password,
    user = 'alice',
    more = '',
  } = options;
  const file = (name: string) => join(directory, name);
  const own =
    certificate === undefined
      ? `sslcert=${file('none')}`
      : `sslcert=${file(`${certificate}.crt`)} sslkey=${file(`${certificate}.key`)}`;
  const target = `host=localhost hostaddr=127.0.0.1 port=${door.address.port} user=${user} dbname=defaultdb sslmode=${sslmode} sslrootcert=${file(ca)} ${own} ${more}`;
  const query = "SELECT current_user || ' ' || (SELECT count(*) FROM generate_series(1, 10))";
  const { stdout, stderr } = await runProgram('psql', ['-X', '-A', '-t', '-w', '-c', query, target], {
    env: { PGPASSWORD: password ?? '' },
  });
  return (stdout + stderr).trim();
}

/** A client of `pg` that encrypts. */
async function connectSecurely(options: pg.ClientConfig & { replication?: string } = {}): Promise<pg.Client> {
  const client = new pg.Client({
    host: 'localhost',
    port: door.address.port,
    user: 'alice',
    password: 'wonder',
    database: 'defaultdb',
    ssl: { ca: authority.certificate },
    ...options,
  });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Asks for encryption by hand; resolves after the handshake. */
async function rawTls(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const client = await RawClient.connect(door.address);
  client.send(encodeSslRequest());
  await waitFor('the answer', () => client.received.toString() === 'S');
  client.socket.removeAllListeners('data');
  const socket = connectTls({
    socket: client.socket,
    ca: authority.certificate,
    servername: 'localhost',
    ...options,
  });
  await once(socket, 'secureConnect');
  return socket;
}

test('psql verifies the node, and binds the password to its certificate', async () => {
  assert.equal(await psql({ password: 'wonder', more: 'channel_binding=require' }), 'alice 10');
  assert.match(await psql({ password: 'wrong' }), /password authentication failed for user "alice"/);
  assert.match(await psql({ password: 'wonder', ca: 'other-ca.crt' }), /certificate verify failed/);
  assert.match(
    await psql({ password: 'wonder', sslmode: 'disable' }),
    /takes encrypted connections only[\s\S]*sslmode=verify-full/,
  );
  await bed.expectQuiet();
});

test('a certificate logs in whom it names, and whom the map lets it', async () => {
  assert.equal(await psql({ certificate: 'alice' }), 'alice 10');
  assert.equal(await psql({ certificate: 'batch' }), 'alice 10');
  assert.match(await psql({ certificate: 'alice', user: 'bob' }), /is that of "alice", not of "bob"/);
  assert.match(
    await psql({ certificate: 'batch', user: 'batch.example.com' }),
    /is that of "batch\.example\.com", not of/,
  );
});

test('a certificate that has expired, or of another CA, is refused with the reason, the password notwithstanding', async () => {
  assert.match(await psql({ certificate: 'expired', password: 'wonder' }), /not accepted: .*expired/);
  assert.match(await psql({ certificate: 'stranger', password: 'wonder' }), /not accepted: /);
  await bed.expectQuiet();
});

test('node-postgres works: both protocols, ours, errors, bound logins, replication connections', async () => {
  const client = await connectSecurely({ enableChannelBinding: true } as pg.ClientConfig);
  assert.deepEqual((await client.query('SELECT $1::int AS n', [7])).rows, [{ n: 7 }]);
  assert.equal((await client.query('SHOW JOBS')).rows.length, 1);
  await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
  await client.end();
  const streaming = await connectSecurely({ replication: 'true' });
  assert.equal((await streaming.query('IDENTIFY_SYSTEM')).rows.length, 1);
  await streaming.end();
  await assert.rejects(connectSecurely({ password: 'wrong' }), { code: '28P01' });
  await assert.rejects(connectSecurely({ ssl: { ca: [] } }));
  await bed.expectQuiet();
});

test('TLS 1.2 is the oldest that is spoken', async () => {
  const old = { ciphers: 'DEFAULT@SECLEVEL=0', minVersion: 'TLSv1' } as const;
  await assert.rejects(rawTls({ ...old, maxVersion: 'TLSv1.1' }));
  const socket = await rawTls({ ...old, maxVersion: 'TLSv1.2' });
  assert.equal(socket.getProtocol(), 'TLSv1.2');
  socket.destroy();
  const other = await rawTls();
  assert.equal(other.getProtocol(), 'TLSv1.3');
  other.destroy();
  await assert.rejects(rawTls({ ALPNProtocols: ['http/1.1'] }), 'another protocol was led here');
  await bed.expectQuiet();
});

test('what was sent in the clear ahead of the handshake is not taken for something encrypted', async () => {
  const client = await RawClient.connect(door.address);
  const startup = encodeStartup({ protocol: PROTOCOL_3_0, parameters: new Map([['user', 'alice']]) });
  client.send(Buffer.concat([encodeSslRequest(), startup]));
  await client.untilClosed();
  assert.equal(client.received.toString('latin1')[0], 'E');
  assert.equal(errorFields(client.received.subarray(5))['C'], '08P01');
  await bed.expectQuiet();
});

test('who breaks the handshake off, or talks nonsense in it, is gone', async () => {
  for (const bytes of [Buffer.alloc(0), randomBytes(300), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
    const client = await RawClient.connect(door.address);
    client.send(encodeSslRequest());
    await waitFor('the answer', () => client.received.toString('latin1').startsWith('S'));
    client.send(bytes);
    client.socket.end();
    await client.untilClosed();
  }
  await bed.expectQuiet();
});

test('a handshake that does not go on is cut off, by the time limit and when the door closes', async () => {
  const tls = { material: await authority.material(), acceptsPlain: false, principals: new Map() };
  const silent = async (limited: FrontDoor): Promise<RawClient> => {
    const client = await RawClient.connect(limited.address);
    client.send(encodeSslRequest());
    await waitFor('the answer', () => client.received.toString('latin1') === 'S');
    return client;
  };
  const hasty = await bed.open({ authentication: 'scram', tls, limits: { authenticationTimeoutMs: 200 } });
  await (await silent(hasty)).untilClosed();
  const patient = await bed.open({ authentication: 'scram', tls });
  const client = await silent(patient);
  await patient.close();
  await client.untilClosed();
  await bed.expectQuiet();
});

test('a cancel request is taken encrypted and, as from older clients, in the clear', async () => {
  for (const isEncrypted of [true, false]) {
    const client = await connectSecurely();
    const { processID, secretKey } = client as pg.Client & { processID: number; secretKey: number };
    const outcome = client.query('SELECT pg_sleep(600)').catch((error: unknown) => error);
    await waitFor('the query to run', async () => {
      const rows = await bed.instance.withSystemClient(
        (system) => system.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
        { signal: new AbortController().signal },
      );
      return rows.length === 1;
    });
    const secret = Buffer.alloc(4);
    secret.writeInt32BE(secretKey);
    const request = encodeCancelRequest({ processId: processID, secret });
    const socket = isEncrypted ? await rawTls() : (await RawClient.connect(door.address)).socket;
    socket.end(request);
    const error = await outcome;
    assert.equal(error instanceof pg.DatabaseError && error.code, '57014');
    await client.end();
  }
  await bed.expectQuiet();
});

test('much goes both ways whole, and a slow reader holds the backend back, not our memory', async () => {
  const client = await connectSecurely();
  const text = randomBytes(12_000_000).toString('base64');
  const { rows } = await client.query('SELECT $1::text AS back, md5($1::text) AS digest', [text]);
  assert.equal(rows[0]?.back, text);
  assert.equal(rows[0]?.digest, createHash('md5').update(text).digest('hex'));
  await client.end();

  const socket = await rawTls({ cert: alice.certificate, key: alice.key });
  socket.on('error', () => undefined);
  const before = door.counters.backendBytes;
  socket.write(encodeStartup({ protocol: PROTOCOL_3_0, parameters: new Map([['user', 'alice']]) }));
  await once(socket, 'data');
  socket.pause();
  socket.write(encodeQuery("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"));
  await waitFor('the backend to be held back', async () => {
    const held = await bed.instance.withSystemClient(
      (system) => system.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"),
      { signal: new AbortController().signal },
    );
    return held.length === 1;
  });
  assert.ok(door.counters.backendBytes - before < 50_000_000, 'most of 100 MB is still in the backend');
  let received = 0;
  socket.on('data', (bytes: Buffer) => (received += bytes.length));
  socket.resume();
  await waitFor('all rows', () => received > 100_000 * 1_000);
  socket.destroy();
  await bed.expectQuiet();
});

test('new connections get the new certificate, and those that are open go on', async () => {
  const client = await connectSecurely();
  const shown = async (): Promise<string | undefined> => {
    const socket = await rawTls();
    const certificate = socket.getPeerX509Certificate();
    socket.destroy();
    return certificate?.fingerprint256;
  };
  const former = await shown();
  const next = await authority.material();
  assert.throws(() => door.useCertificate({ ...next, key: alice.key }), { code: 'parameter_invalid' });
  assert.equal(await shown(), former, 'what does not fit changes nothing');
  door.useCertificate(next);
  assert.equal(await shown(), new X509Certificate(next.certificate).fingerprint256);
  assert.deepEqual((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }]);
  await client.end();
  await bed.expectQuiet();
  assert.deepEqual(bed.logger.complaints, []);
});

test('clients that do not encrypt are let in where that is accepted', async () => {
  const open = await bed.open({
    authentication: 'scram',
    tls: { material: await authority.material(), acceptsPlain: true, principals: new Map() },
  });
  const client = await connect(open, { user: 'alice', password: 'wonder' });
  await client.end();
});
