/** An image that is cut off and gone on with, of a source that changes meanwhile: what comes again, and what it becomes. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine } from '../../../test/harness/bare-engine.ts';
import { changeMixed, createMixed, MIXED_WORKLOAD_SETTINGS } from '../../../test/harness/mixed-workload.ts';
import { countWithDefaultPlans, damageSeenBy, digestTables } from '../../../test/harness/oracle.ts';
import { TcpProxy } from '../../../test/harness/tcp-proxy.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { isAppError, type Logger, RESTORE_PROGRESS_FILE } from '../../base/index.ts';
import { systemClock } from '../../daemon/index.ts';
import { PLAIN_SOURCE } from '../../pg/index.ts';
import { FAULT_POINT_VARIABLE } from '../worker/fault-point.ts';
import { Confinement, createReceiveWorker, type ReceiveBaseResult } from '../index.ts';

const MIB = 1024 * 1024;
const LOG_FOLDER = 'pg_wal';
const quiet = new Proxy({}, { get: () => () => undefined }) as Logger;
const confinement = new Confinement({ logger: quiet });
/** What one file and what is under way in sockets and buffers can hold. */
const LOST_BYTES_MAX = 12 * MIB;

describe('an image of a source that is cut off', () => {
  let engine: BareEngine;
  let network: TcpProxy;
  let directory = '';
  let systemIdentifier = 0n;
  /** Of an image in one go, nearly. */
  let wholeBytes = 0;

  const receive = (signal = new AbortController().signal): Promise<ReceiveBaseResult> =>
    stat(engine.dataDirectory).then(({ uid }) =>
      createReceiveWorker({ clock: systemClock(), logger: quiet, confinement }).receiveBase(
        {
          source: {
            host: '127.0.0.1',
            port: network.port,
            user: 'atoll',
            password: null,
            options: '',
            tls: PLAIN_SOURCE,
          },
          identity: { systemIdentifier, slot: 'atoll_stream_1' },
          targetDirectory: directory,
          uid: process.getuid?.() === 0 ? uid : null,
        },
        { onProgress: () => undefined, signal },
      ),
    );
  /** Until so much has come of the next attempt, which then is cut off. */
  const cutAfter = async (bytes: number) => {
    network.silentAtBytes = network.receivedBytes + bytes;
    const attempt = receive();
    attempt.catch(() => undefined);
    await waitFor('the image to be under way', () => network.mode === 'silent');
    network.mode = 'refuse';
    await assert.rejects(attempt, (error) => isAppError(error, 'connection_failure'));
    network.mode = 'pass';
  };
  const bytesOf = async (work: () => Promise<unknown>) => {
    const beforeBytes = network.receivedBytes;
    await work();
    return network.receivedBytes - beforeBytes;
  };
  const summarize = async (value: 'on' | 'off') => {
    await engine.use('postgres', async (client) => {
      await client.query(`ALTER SYSTEM SET summarize_wal = ${value}`);
      await client.query('SELECT pg_reload_conf()');
    });
    await waitFor('the setting', () =>
      engine.use('postgres', async (client) => {
        const { rows } = await client.query<{ summarize_wal: string }>('SHOW summarize_wal');
        return rows[0]?.summarize_wal === value;
      }),
    );
  };
  const beginAnew = async () => {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { mode: 0o700 });
  };
  /** One file that was whole is torn, one damaged, one lost. Gives how much they held. */
  const damageFiles = async () => {
    const lines = (await readFile(join(directory, RESTORE_PROGRESS_FILE), 'utf8')).split('\n');
    const files = lines.flatMap((line) => {
      const [, bytes, path] = /^[0-9a-f]{64} (\d+) (.+)$/.exec(line) ?? [];
      return path === undefined ? [] : [{ bytes: Number(bytes), path }];
    });
    const [torn, damaged, lost] = files.filter(({ bytes }) => bytes > MIB / 4);
    assert.ok(torn !== undefined && damaged !== undefined && lost !== undefined);
    await using first = await open(join(directory, torn.path), 'r+');
    await first.truncate(torn.bytes - 8192);
    await using second = await open(join(directory, damaged.path), 'r+');
    await second.write(Buffer.from([0x5a]), 0, 1, 8192 + 4000);
    await rm(join(directory, lost.path));
    return torn.bytes + damaged.bytes + lost.bytes;
  };
  /** It recovers, by the source's log, to what the source is now. */
  const assertSame = async () => {
    const digests = () =>
      engine.use('postgres', async (client) => {
        const tables = await digestTables(client);
        const counts = await countWithDefaultPlans(client);
        for (const { table, rows } of tables) assert.equal(counts.get(table), rows, table);
        return tables.filter(({ table }) => !table.startsWith('public.unlogged'));
      });
    const source = await digests();
    assert.ok(source.length > 8);
    await engine.stop('fast');
    const { uid, gid } = await stat(engine.dataDirectory);
    for (const name of await readdir(join(engine.dataDirectory, LOG_FOLDER))) {
      if (!/^[0-9A-F]{24}$/.test(name)) continue;
      const target = join(directory, LOG_FOLDER, name);
      await copyFile(join(engine.dataDirectory, LOG_FOLDER, name), target);
      await using file = await open(target, 'r+');
      await file.chown(uid, gid);
    }
    await rm(join(directory, RESTORE_PROGRESS_FILE));
    await engine.start({ dataDirectory: directory });
    assert.deepEqual(await digests(), source);
    assert.deepEqual(await engine.use('postgres', damageSeenBy), []);
    await engine.stop('fast');
    await engine.start();
  };

  before(async () => {
    // What stands on the command line cannot be changed.
    const { summarize_wal: _on, ...settings } = MIXED_WORKLOAD_SETTINGS;
    engine = await BareEngine.open({
      settings: { ...settings, wal_keep_size: '4GB' },
    });
    await engine.start();
    await summarize('on');
    network = await TcpProxy.start(() => join(engine.directory, '.s.PGSQL.5432'));
    directory = join(engine.directory, 'copy');
    await createMixed(engine);
    await engine.use('postgres', async (client) => {
      await client.query('CREATE EXTENSION amcheck');
      // Files of a few MiB each.
      for (let table = 0; table < 8; table++) {
        await client.query(
          `CREATE TABLE still_${table} AS SELECT i, repeat('s', 400) AS filler FROM generate_series(1, 8000) i`,
        );
      }
      // Else the workload's VACUUM changes each of their pages.
      await client.query('VACUUM (FREEZE)');
      const { rows } = await client.query<{ id: string }>(
        'SELECT system_identifier::text AS id FROM pg_control_system()',
      );
      systemIdentifier = BigInt(rows[0]?.id ?? '');
    });
    wholeBytes = await sizeOf(join(engine.dataDirectory, 'base'));
    assert.ok(wholeBytes > 40 * MIB);
  });

  after(async () => {
    delete process.env[FAULT_POINT_VARIABLE];
    await network?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  it('comes again only as far as it is not here, or is damaged, or has changed, and is what the source is', async () => {
    await beginAnew();
    let results: ReceiveBaseResult | undefined;
    let lostBytes = 0;
    const bytes = await bytesOf(async () => {
      for (const part of [0.4, 0.3]) {
        await cutAfter(wholeBytes * part);
        await engine.use('postgres', async (client) => {
          await client.query('UPDATE account SET balance = balance + 1 WHERE id % 37 = 5');
          await client.query(`DELETE FROM shrinking WHERE i > ${2000 * part}`);
          await client.query('VACUUM (TRUNCATE) shrinking');
        });
      }
      lostBytes = await damageFiles();
      results = await receive();
    });
    assert.equal(results?.anewBecause, null);
    assert.ok((results?.keptBytes ?? 0n) > wholeBytes / 4);
    assert.ok(bytes < wholeBytes + lostBytes + 2 * LOST_BYTES_MAX, `${bytes} bytes for ${wholeBytes}`);
    await assertSame();
  });

  it('does not come again either when the process ends behind its last byte', async () => {
    await beginAnew();
    await cutAfter(wholeBytes / 2);
    await changeMixed(engine, 0);
    for (const point of ['receive.before_sync', 'receive.after_sync', 'receive.after_first_change']) {
      process.env[FAULT_POINT_VARIABLE] = point;
      const bytes = await bytesOf(() =>
        assert.rejects(receive(), (error) => isAppError(error, 'worker_lost')),
      );
      delete process.env[FAULT_POINT_VARIABLE];
      if (point === 'receive.after_first_change') assert.equal(bytes, 0);
    }
    assert.equal(await bytesOf(receive), 0);
    // Asked again, the same answer.
    const { receivedBytes, startLsn } = await receive();
    assert.equal(receivedBytes, 0n);
    assert.ok(startLsn > 0n);
    await assertSame();
  });

  it('begins anew, and says why, where the source cannot tell what has changed', async () => {
    await beginAnew();
    await cutAfter(wholeBytes / 2);
    // What was told is gone, and is not told again.
    const summaries = join(engine.dataDirectory, LOG_FOLDER, 'summaries');
    await engine.use('postgres', (client) => client.query('CHECKPOINT'));
    await waitFor('a summary', async () => (await readdir(summaries)).length > 0);
    for (const name of await readdir(summaries)) await rm(join(summaries, name));
    const refused = await receive();
    assert.match(refused.anewBecause ?? '', /summaries are required/);
    assert.equal(refused.keptBytes, 0n);
    await beginAnew();
    await cutAfter(wholeBytes / 2);
    await summarize('off');
    const { anewBecause, keptBytes } = await receive();
    assert.match(anewBecause ?? '', /summarize_wal is off/);
    assert.equal(keptBytes, 0n);
  });
});

async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
