import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { systemClock } from '../daemon/clock.ts';
import { CopySource, CopyTarget, SKIP_NOTHING } from './index.ts';
import type { CopyDescription } from './contract.ts';
import { EVERYTHING, FINGERPRINT_OF_ROWS } from './testing-everything.ts';

const { signal } = new AbortController();
const options = { clock: systemClock(), rng: { bytes: (length: number) => randomBytes(length) }, signal };
const ROLES = `create role reader login bypassrls; grant pg_read_all_data to reader; alter role reader set lo_compat_privileges = on;
  create role tenant; create role maker login; grant tenant to maker`;

describe('a logical copy', () => {
  let engine: BareEngine;

  before(async () => {
    engine = await BareEngine.open({ settings: { max_connections: 20 } });
    await engine.start();
    await engine.use('postgres', async (client) => {
      await client.query(ROLES);
      await client.query('create database origin template template0');
    });
    await engine.use('origin', (client) => client.query(EVERYTHING));
  });
  after(() => engine[Symbol.asyncDispose]());

  test('of a whole database is the same database', async () => {
    await using source = await openSource('origin');
    const copy = await source.describe({ kind: 'database' });
    await engine.use('postgres', (client) =>
      client.query('create database again template template0 owner maker'),
    );
    const restored = await restoreInto('again', copy, source);
    assert.ok(restored.rows > 450n, `${restored.rows} rows`);
    assert.deepEqual(restored.skipped, []);
    assert.deepEqual(await digestOf('again'), await digestOf('origin'));
    assert.deepEqual(await definitionsOf('again'), await definitionsOf('origin'));
  });

  async function openSource(database: string): Promise<CopySource> {
    return CopySource.open({ socketDirectory: engine.directory, database, role: 'reader' }, options);
  }

  async function restoreInto(database: string, copy: CopyDescription, source: CopySource, changes = {}) {
    await using target = await CopyTarget.open(
      { socketDirectory: engine.directory, database, role: 'maker' },
      { signal },
    );
    return await target.restore(copy, {
      rows: source,
      options: {
        schemaOnly: false,
        skip: SKIP_NOTHING,
        owner: null,
        onProgress: () => undefined,
        signal,
        ...changes,
      },
    });
  }

  async function definitionsOf(database: string): Promise<readonly string[]> {
    await using source = await openSource(database);
    const { entries } = await source.describe({ kind: 'database' });
    return entries.map(({ sql }) => sql);
  }

  async function digestOf(database: string): Promise<readonly unknown[]> {
    return engine.use(database, async (client) => (await client.query<object>(FINGERPRINT_OF_ROWS)).rows);
  }
});
