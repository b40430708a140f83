import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { abortedAfter, NEVER, TestStore } from '../../test/harness/instance-store.ts';
import type { IncarnationId, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import { PLAIN_SOURCE } from '../pg/index.ts';
import { DEFAULT_INSTANCE_SETTINGS } from './configuration.ts';
import type { Following, Instance } from './contract.ts';

const run = promisify(execFile);
const FOLLOWED = '11111111-1111-4111-8111-111111111111' as IncarnationId;
const PROMOTED = '22222222-2222-4222-8222-222222222222' as IncarnationId;
const ID = 3 as VirtualClusterId;

describe('a follower of a plain server', () => {
  let store: TestStore;
  let instance: Instance;

  const ask = async (sql: string) => {
    const [row] = await instance.withSystemClient((client) => client.query(sql), { signal: NEVER });
    return Object.values(row ?? {})[0];
  };
  const promote = (signal: AbortSignal, told: string[] = []) =>
    store.host.promote({
      virtualClusterId: ID,
      incarnation: PROMOTED,
      prepare: async (client) => {
        const [row] = await client.query('SELECT current_database() AS database, current_user AS user');
        assert.deepEqual(row, { database: 'system', user: 'atoll' });
      },
      onAdopted: (findings) => told.push(...findings),
      onDisabledSubscriptions: () => undefined,
      signal,
    });

  before(async () => {
    await using engine = await BareEngine.open({ superuser: 'boss' });
    await engine.start();
    await engine.use('postgres', (client) => client.query('CREATE TABLE seen AS SELECT 1 AS one'));
    await engine.stop('fast');
    store = await TestStore.open();
    const name = 'main' as VirtualClusterName;
    const settings = DEFAULT_INSTANCE_SETTINGS;
    await store.host.create({ virtualClusterId: ID, name, settings, signal: NEVER });
    const begun = await store.host.beginIncarnation({ virtualClusterId: ID, incarnation: FOLLOWED });
    await cp(engine.dataDirectory, begun.dataDirectory, { recursive: true });
    if (begun.uid !== null) await run('chown', ['-R', `${begun.uid}:${begun.uid}`, begun.dataDirectory]);
    const following: Following = {
      incarnation: FOLLOWED,
      phase: 'cut_off',
      timelineId: 1,
      slot: 'atoll_1',
      source: { host: '127.0.0.1', port: 1, user: 'x', password: null, options: '', tls: PLAIN_SOURCE },
      stopAt: null,
    };
    const life = { parentIncarnation: null, forkLsn: null };
    await store.host.commitFollower({ virtualClusterId: ID, following, ...life, signal: NEVER });
    const made = store.host.get(ID);
    assert.ok(made !== undefined);
    instance = made;
  });

  after(async () => {
    await store?.[Symbol.asyncDispose]();
  });

  it('lets the node in as the superuser that it has', async () => {
    await instance.start({ signal: NEVER });
    assert.deepEqual(instance.login, { user: 'boss', database: 'postgres' });
    assert.equal(await ask('SELECT pg_is_in_recovery()::text'), 'true');
  });

  it('is promoted, wherever that was cut off, and the server with it', async () => {
    let cuts = 0;
    const told: string[] = [];
    for (let count = 30; ; count *= 2) {
      try {
        await promote(abortedAfter(count), told);
        break;
      } catch (error) {
        assert.match(String(error), /cut off|cancelled/);
        cuts += 1;
        await instance.stop({ mode: 'immediate', signal: NEVER });
      }
    }
    assert.ok(cuts > 1, `cut off ${cuts} times`);
    assert.ok(
      told.some((finding) => finding.includes('superuser "boss" is now role boss')),
      told.join('\n'),
    );
    // Asked again, the same answer.
    await promote(NEVER);
    await instance.start({ signal: NEVER });
    assert.deepEqual(instance.login, { user: 'atoll', database: 'system' });
    assert.equal(instance.following, null);
    assert.equal(await ask(`SELECT rolsuper::text FROM pg_roles WHERE rolname = 'boss'`), 'false');
    assert.deepEqual(await instance.guardDatabases({ signal: NEVER }), [
      'database system: guards of this release are installed',
    ]);
    assert.deepEqual(await instance.guardDatabases({ signal: NEVER }), []);
  });
});
