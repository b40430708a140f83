import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine, ownerOfTests } from '../../test/harness/bare-engine.ts';
import { TcpProxy } from '../../test/harness/tcp-proxy.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { type AppError, type IncarnationId, isAppError } from '../base/index.ts';
import { inspectPlainServer, PlainServer, type PlainStream, reserveLog } from './plain-server.ts';
import { readServerFacts, type ServerFacts } from './server-facts.ts';
import { parseSourceUri } from './source-address.ts';

const NEVER = new AbortController().signal;
const INCARNATION = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const SLOT = 'atoll_11111111_1111_4111_8111_111111111111';
/** Of a distribution, where there is one. */
const OLD_ENGINE = '/usr/lib/postgresql/15/bin';
const NOTHING_TOLD = { replicatedTime: null, replicatedLsn: null };
const HBA = `local all boss trust
local all refused reject
local shut mover reject
local replication unlisted reject
local all,replication all trust
`;

describe('a plain server as the source of a stream', () => {
  let engine: BareEngine;
  let network: TcpProxy;
  let own: ServerFacts;

  const ask = (sql: string, database = 'postgres') =>
    engine.use(database, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
  const addressOf = ({ user = 'mover', port = network.port } = {}) =>
    parseSourceUri(`postgresql://${user}@127.0.0.1:${port}?sslmode=disable`);
  const inspect = (
    options: {
      user?: string;
      port?: number;
      own?: ServerFacts;
      locale?: boolean;
      extensions?: string[];
    } = {},
  ) =>
    inspectPlainServer(addressOf(options), {
      own: { ...(options.own ?? own), extensions: new Set(options.extensions ?? ['plpgsql']) },
      probeLocale: () => Promise.resolve({ isPresent: options.locale ?? true, version: null }),
      incarnation: INCARNATION,
      release: '26.2',
      signal: NEVER,
    });
  const begin = async () => {
    const stream = await inspect();
    assert.deepEqual(await slots(), [], 'nothing is kept before it is recorded');
    await reserveLog(addressOf(), { terms: stream.terms, signal: NEVER });
    return stream;
  };
  const slots = () => ask('SELECT slot_name FROM pg_replication_slots');
  const refused = async (expected: { code: AppError['code']; message: RegExp }, options = {}) => {
    await assert.rejects(inspect(options), (error: unknown) => {
      assert.ok(isAppError(error), String(error));
      assert.equal(error.code, expected.code, error.message);
      assert.match(error.message, expected.message);
      assert.ok(error.hint !== undefined, `${error.message}: no hint`);
      return true;
    });
    assert.deepEqual(await slots(), []);
  };
  const restart = async (settings: readonly string[] = []) => {
    for (const setting of settings) await ask(`ALTER SYSTEM SET ${setting}`);
    await engine.stop('fast');
    await engine.start();
  };
  const reload = async (sql: string, setting: string, value: string) => {
    await ask(sql);
    await ask('SELECT pg_reload_conf()');
    for (;;) if ((await ask(`SHOW ${setting}`))[0]?.[setting] === value) return;
  };
  const open = ({ terms }: PlainStream) => PlainServer.open(addressOf(), { terms, signal: NEVER });

  before(async () => {
    engine = await BareEngine.open({ superuser: 'boss' });
    await writeFile(join(engine.dataDirectory, 'pg_hba.conf'), HBA);
    await engine.start();
    await ask('CREATE ROLE mover LOGIN REPLICATION');
    network = await TcpProxy.start(() => join(engine.directory, '.s.PGSQL.5432'));
    own = await engine.use('postgres', (client) =>
      readServerFacts({ query: async (sql) => (await client.query<Record<string, string>>(sql)).rows }),
    );
  });

  after(async () => {
    await network?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  it('is refused where it cannot be followed, before anything is kept there', async () => {
    const older = { ...own, versionNumber: 190_001 };
    await refused(
      { code: 'feature_not_supported', message: /the source runs PostgreSQL 18/ },
      { own: older },
    );
    const other = { ...own, layout: '8/16384' };
    await refused({ code: 'object_state', message: /another build/ }, { own: other });
    await ask(
      'CREATE ROLE nobody LOGIN; CREATE ROLE unlisted LOGIN REPLICATION; CREATE ROLE refused LOGIN REPLICATION',
    );
    await refused(
      { code: 'insufficient_privilege', message: /"nobody" of the source may not replicate/ },
      { user: 'nobody' },
    );
    for (const user of ['unlisted', 'refused']) {
      await refused({ code: 'authorization_invalid', message: /pg_hba\.conf/ }, { user });
    }
    const cases: readonly (readonly [string, string, AppError['code'], RegExp])[] = [
      ['CREATE ROLE admin', 'DROP ROLE admin', 'object_exists', /role admin/],
      ['CREATE ROLE atoll_x', 'DROP ROLE atoll_x', 'object_exists', /role atoll_x/],
      ['CREATE DATABASE system', 'DROP DATABASE system', 'object_exists', /database system/],
      ['CREATE EXTENSION dblink', 'DROP EXTENSION dblink', 'object_state', /dblink in "postgres"/],
    ];
    for (const [make, undo, code, message] of cases) {
      await ask(make);
      await refused({ code, message });
      await ask(undo);
    }
    await reload('ALTER SYSTEM SET full_page_writes = off', 'full_page_writes', 'off');
    await refused({ code: 'object_state', message: /full pages/ });
    await reload('ALTER SYSTEM RESET full_page_writes', 'full_page_writes', 'on');
    await ask(`UPDATE pg_database SET datcollate = 'xx_XX' WHERE datname = 'template0'`);
    await refused({ code: 'object_state', message: /locale xx_XX/ }, { locale: false });
    await ask(`UPDATE pg_database SET datcollate = 'C' WHERE datname = 'template0'`);
    await restart(['wal_level = minimal', 'max_wal_senders = 0']);
    await refused({ code: 'object_state', message: /wal_level is minimal/ });
    await restart(['wal_level = replica', 'max_wal_senders = 10']);
  });

  it('is refused when its pages have no checksums', async () => {
    await using bare = await BareEngine.open({ superuser: 'boss', initFlags: ['--no-data-checksums'] });
    await using proxy = await TcpProxy.start(() => join(bare.directory, '.s.PGSQL.5432'));
    await bare.start();
    await refused({ code: 'object_state', message: /no data checksums/ }, { user: 'boss', port: proxy.port });
  });

  it('is refused when it is of an older major version', { skip: !existsSync(OLD_ENGINE) }, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'atoll-old-'));
    const data = join(directory, 'data');
    const owner = ownerOfTests();
    if (owner.uid !== undefined && owner.gid !== undefined) await chown(directory, owner.uid, owner.gid);
    const init = [`--pgdata=${data}`, '--username=mover', '--auth=trust', '--no-sync', '--locale=C'];
    execFileSync(join(OLD_ENGINE, 'initdb'), init, { ...owner, stdio: 'ignore' });
    const settings = ['listen_addresses=', `unix_socket_directories=${directory}`, 'fsync=off'];
    const flags = settings.flatMap((setting) => ['-c', setting]);
    const server = spawn(join(OLD_ENGINE, 'postgres'), ['-D', data, ...flags], { ...owner, stdio: 'ignore' });
    await using proxy = await TcpProxy.start(() => join(directory, '.s.PGSQL.5432'));
    try {
      const error = await waitFor('the older server to answer', async () => {
        const failure: unknown = await inspect({ port: proxy.port }).catch((thrown: unknown) => thrown);
        return isAppError(failure, 'connection_failure') ? undefined : failure;
      });
      assert.ok(isAppError(error, 'feature_not_supported'), String(error));
      assert.match(error.message, /the source runs PostgreSQL 15\.\d+.*PostgreSQL 18 is needed/);
      assert.match(error.hint ?? '', /pg_upgrade/);
    } finally {
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.kill('SIGQUIT');
      await ended;
      await rm(directory, { recursive: true });
    }
  });

  it('keeps its log from the beginning of a stream to its end, and tells when it is not what was followed', async () => {
    await ask('CREATE DATABASE shut');
    const stream = await begin();
    assert.deepEqual(
      stream.warnings.map(({ message }) => message.replace(/:.*/, '')),
      [
        'the source keeps its log without limit for as long as this follower is away',
        'not all databases of the source could be looked into',
      ],
    );
    const { terms } = stream;
    assert.deepEqual([terms.timelineId, terms.slot, terms.history], [1, SLOT, '']);
    // Whoever does not know whether it was done does it again.
    await reserveLog(addressOf(), { terms, signal: NEVER });
    const [kept] = await ask(
      'SELECT slot_name, (restart_lsn - $$0/0$$::pg_lsn)::text AS bytes FROM pg_replication_slots',
    );
    assert.equal(kept?.['slot_name'], SLOT);
    assert.ok(terms.reservedLsn <= BigInt(String(kept?.['bytes'])));
    {
      await using source = await open(stream);
      // An idle server's time goes on.
      const xids: unknown[] = [];
      for (let round = 0; round < 4; round += 1) {
        await source.report('0', NOTHING_TOLD);
        xids.push((await ask('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid'))[0]?.['xid']);
      }
      assert.ok(new Set(xids).size > 1, xids.join(' '));
      await ask(`SELECT pg_drop_replication_slot('${SLOT}')`);
      await assert.rejects(source.report('0', NOTHING_TOLD), /slot atoll_\S+ was dropped/);
      await source.dropStream();
    }
    const again = await begin();
    {
      await using source = await open(again);
      await source.report('0', NOTHING_TOLD);
      await source.dropStream();
      assert.deepEqual(await slots(), []);
    }
    {
      const lost = await begin();
      await using source = await open(lost);
      await source.report('0', NOTHING_TOLD);
      await reload('ALTER SYSTEM SET max_slot_wal_keep_size = 0', 'max_slot_wal_keep_size', '0');
      await ask('SELECT pg_switch_wal()');
      await ask('CREATE TABLE filler ()');
      await ask('CHECKPOINT');
      await assert.rejects(source.report('0', NOTHING_TOLD), (error) => {
        assert.ok(isAppError(error, 'object_state'), String(error));
        assert.match(error.message, /removed log that is needed here: slot atoll_\S+ is lost/);
        assert.match(error.hint ?? '', /max_slot_wal_keep_size/);
        return true;
      });
      await source.dropStream();
      await reload('ALTER SYSTEM RESET max_slot_wal_keep_size', 'max_slot_wal_keep_size', '-1');
    }
    await restart(['max_replication_slots = 1']);
    await ask(`SELECT pg_create_physical_replication_slot('of_another')`);
    const { terms: noPlace } = await inspect();
    await assert.rejects(reserveLog(addressOf(), { terms: noPlace, signal: NEVER }), (error) => {
      assert.ok(isAppError(error, 'limit_exceeded'), String(error));
      assert.match(error.hint ?? '', /max_replication_slots/);
      return true;
    });
    await ask(`SELECT pg_drop_replication_slot('of_another')`);
    await restart(['max_replication_slots = 10']);
    const last = await begin();
    await engine.stop('fast');
    await writeFile(join(engine.dataDirectory, 'standby.signal'), '');
    await engine.start();
    {
      await using source = await open(last);
      await assert.rejects(source.report('0', NOTHING_TOLD), (error) =>
        isAppError(error, 'connection_failure'),
      );
      await ask('SELECT pg_promote()');
      await assert.rejects(source.report('0', NOTHING_TOLD), (error) => {
        assert.ok(isAppError(error, 'object_state'), String(error));
        assert.match(error.message, /the source was promoted: it writes timeline 2/);
        return true;
      });
    }
    // Of what was promoted the history is known.
    await ask(`SELECT pg_drop_replication_slot('${SLOT}')`);
    const promoted = await begin();
    assert.equal(promoted.terms.timelineId, 2);
    assert.match(promoted.terms.history, /^1\t[0-9A-F]+\/[0-9A-F]+\t/);
  });
});
