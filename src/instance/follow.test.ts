import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import {
  type IncarnationId,
  isAppError,
  type Lsn,
  parseLsn,
  type VirtualClusterId,
  type VirtualClusterName,
} from '../base/index.ts';
import { PLAIN_SOURCE } from '../pg/index.ts';
import { NEVER, TestStore } from '../../test/harness/instance-store.ts';
import { DEFAULT_INSTANCE_SETTINGS } from './configuration.ts';
import type { Following, Instance } from './contract.ts';
import { FORK_SLOT } from './follow.ts';

const run = promisify(execFile);
const FOLLOWED = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const PROMOTED = '22222222-2222-4222-8222-222222222222' as IncarnationId;

describe('a follower', () => {
  let store: TestStore;
  let source: Instance;
  let nextId = 10;

  /** A copy of the stopped source, which receives nothing. */
  async function makeFollower(): Promise<VirtualClusterId> {
    const virtualClusterId = nextId++ as VirtualClusterId;
    const name = `follower-${virtualClusterId}` as VirtualClusterName;
    const settings = DEFAULT_INSTANCE_SETTINGS;
    await store.host.create({ virtualClusterId, name, settings, signal: NEVER });
    const begun = await store.host.beginIncarnation({ virtualClusterId, incarnation: FOLLOWED });
    await cp(source.dataDirectory, begun.dataDirectory, { recursive: true });
    if (begun.uid !== null) await run('chown', ['-R', `${begun.uid}:${begun.uid}`, begun.dataDirectory]);
    const following: Following = {
      incarnation: FOLLOWED,
      phase: 'cut_off',
      timelineId: 1,
      slot: 'atoll_stream_1',
      source: { host: '127.0.0.1', port: 1, user: 'x', password: 's3cret', options: '', tls: PLAIN_SOURCE },
      stopAt: null,
    };
    const life = { parentIncarnation: null, forkLsn: null };
    await store.host.commitFollower({ virtualClusterId, following, ...life, signal: NEVER });
    return virtualClusterId;
  }

  const instanceOf = (id: VirtualClusterId): Instance => {
    const instance = store.host.get(id);
    assert.ok(instance !== undefined);
    return instance;
  };
  const ask = async (id: VirtualClusterId, sql: string) => {
    const rows = await instanceOf(id).withSystemClient((client) => client.query(sql), { signal: NEVER });
    return Object.values(rows[0] ?? {})[0];
  };
  const promote = (id: VirtualClusterId, prepare = () => Promise.resolve()) =>
    store.host.promote({
      virtualClusterId: id,
      incarnation: PROMOTED,
      prepare,
      onDisabledSubscriptions: () => undefined,
      signal: NEVER,
    });
  const folderOf = (id: VirtualClusterId) => join(store.directory, 'vc', String(id));

  before(async () => {
    store = await TestStore.open();
    source = await store.serve(3);
    const asSuperuser = ['CREATE TABLE public.seen (a int)', 'CREATE ROLE evil SUPERUSER'];
    asSuperuser.push('GRANT pg_read_server_files TO root');
    for (const sql of asSuperuser) {
      await source.withSystemClient((client) => client.query(sql), { signal: NEVER });
    }
    await source.stop({ mode: 'orderly', signal: NEVER });
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
  });

  it('follows after every start, also of another daemon, and tells its password to nobody', async () => {
    const id = await makeFollower();
    for (let round = 0; round < 2; round += 1) {
      await instanceOf(id).start({ signal: NEVER });
      assert.equal(await ask(id, 'SELECT pg_is_in_recovery()'), 't');
      await instanceOf(id).stop({ mode: 'orderly', signal: NEVER });
      await store.reopen();
    }
    const conf = join(folderOf(id), 'conf');
    assert.doesNotMatch(await readFile(join(conf, 'postgresql.conf'), 'utf8'), /s3cret/);
    assert.ok(!store.logger.has('s3cret'));
  });

  it('does not start as an instance of its own when nothing says what it follows', async () => {
    const id = await makeFollower();
    await instanceOf(id).start({ signal: NEVER });
    await instanceOf(id).stop({ mode: 'orderly', signal: NEVER });
    await rm(join(folderOf(id), 'conf', 'following.json'));
    await store.reopen();
    await assert.rejects(instanceOf(id).start({ signal: NEVER }), (error) =>
      isAppError(error, 'instance_failed'),
    );
    await instanceOf(id).stop({ mode: 'immediate', signal: NEVER });
  });

  it('replays no log of its own life from where the histories parted, and finds the history of the other', async () => {
    const virtualClusterId = nextId++ as VirtualClusterId;
    const name = `follower-${virtualClusterId}` as VirtualClusterName;
    await store.host.create({ virtualClusterId, name, settings: DEFAULT_INSTANCE_SETTINGS, signal: NEVER });
    const begun = await store.host.beginIncarnation({ virtualClusterId, incarnation: FOLLOWED });
    await cp(source.dataDirectory, begun.dataDirectory, { recursive: true });
    const log = join(begun.dataDirectory, 'pg_wal');
    const before = '000000010000000000000004';
    const parted = '000000010000000000000005';
    const beyond = [
      '000000010000000000000006',
      '000000010000000000000007.partial',
      '000000020000000100000000',
    ];
    const names = [before, parted, ...beyond];
    for (const each of [...names, '00000002.history'])
      await writeFile(join(log, each), 'of the life that is left');
    const history = { timelineId: 3, text: '1\t0/5000100\tno recovery target specified\n' };
    const fence = async (forkLsn: Lsn | null) => {
      await store.host.fence({ virtualClusterId, incarnation: FOLLOWED, forkLsn, history });
      assert.equal(await readFile(join(log, '00000003.history'), 'utf8'), history.text);
      const left = await readdir(log);
      return [...names, '00000002.history'].filter((each) => left.includes(each));
    };
    // Of an image that was copied all log is the other's.
    assert.deepEqual(await fence(null), names);
    for (let attempt = 0; attempt < 2; attempt++)
      assert.deepEqual(await fence(parseLsn('0/5000100')), [before]);
  });

  it('is promoted, and begins a life where it left its parent', async () => {
    const id = await makeFollower();
    const { forkLsn, timelineId } = await promote(id);
    const { identity, following } = instanceOf(id);
    assert.deepEqual([identity.incarnation, identity.parentIncarnation], [PROMOTED, FOLLOWED]);
    assert.deepEqual([identity.forkLsn, timelineId, following], [forkLsn, 2, null]);
    assert.deepEqual(await promote(id), { forkLsn, timelineId });
    assert.ok(!(await readdir(join(folderOf(id), 'conf'))).includes('following.json'));
    await instanceOf(id).start({ signal: NEVER });
    assert.equal(await ask(id, 'SELECT pg_is_in_recovery()'), 'f');
    assert.equal(await ask(id, `SELECT rolsuper FROM pg_roles WHERE rolname = 'evil'`), 'f');
    assert.equal(await ask(id, `SELECT pg_has_role('root', 'pg_read_server_files', 'member')`), 'f');
    assert.ok(store.logger.has('role evil is no superuser any more'));
    await ask(id, 'INSERT INTO public.seen VALUES (1)');
    const slot = `SELECT restart_lsn <= '${forkLsn}'::numeric + '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = '${FORK_SLOT}'`;
    assert.equal(await ask(id, slot), 't');
    await instanceOf(id).stop({ mode: 'immediate', signal: NEVER });
  });

  it('lets nobody in who could write before it is one of its own', async () => {
    const id = await makeFollower();
    await instanceOf(id).start({ signal: NEVER });
    const { socketDirectory } = instanceOf(id);
    const connect = async () => {
      const client = new pg.Client({ host: socketDirectory, user: 'root', database: 'defaultdb' });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    const reader = await connect();
    await assert.rejects(reader.query('CREATE TABLE mine ()'), { code: '25006' });
    let refusal: unknown;
    await promote(id, async () => {
      refusal = await connect().catch((error: unknown) => error);
    });
    assert.equal((refusal as { code?: string }).code, '28000');
    await assert.rejects(reader.query('CREATE TABLE mine ()'));
    await instanceOf(id).start({ signal: NEVER });
    const writer = await connect();
    await writer.query('CREATE TABLE mine ()');
    await writer.end();
    await reader.end().catch(() => undefined);
    await instanceOf(id).stop({ mode: 'immediate', signal: NEVER });
  });

  it('is promoted in the end, wherever an attempt was cut off', async () => {
    const id = await makeFollower();
    // Behind the promotion of the server, before anything is recorded.
    await assert.rejects(
      promote(id, () => Promise.reject(new Error('cut off'))),
      /cut off/,
    );
    await instanceOf(id).stop({ mode: 'immediate', signal: NEVER });
    await store.reopen();
    await instanceOf(id).start({ signal: NEVER });
    assert.equal(await ask(id, 'SELECT pg_is_in_recovery()'), 'f');
    // Behind the first rename.
    await instanceOf(id).stop({ mode: 'orderly', signal: NEVER });
    const [followed, promoted] = [join(folderOf(id), FOLLOWED), join(folderOf(id), PROMOTED)];
    await rename(followed, `${promoted}.rewinding`);
    await store.reopen();
    const { forkLsn } = await promote(id);
    assert.equal(instanceOf(id).identity.incarnation, PROMOTED);
    // Behind the record of the identity, before the last rename.
    await rename(promoted, `${promoted}.rewinding`);
    await store.reopen();
    assert.equal((await promote(id)).forkLsn, forkLsn);
    await instanceOf(id).start({ signal: NEVER });
    await ask(id, 'INSERT INTO public.seen VALUES (1)');
    await instanceOf(id).stop({ mode: 'immediate', signal: NEVER });
  });
});
