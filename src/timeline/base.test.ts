import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { unexplainedBlocks } from '../../test/harness/base-image.ts';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { countWithDefaultPlans, digestTables, findDamage, filesBelow } from '../../test/harness/oracle.ts';
import {
  type ErrorCode,
  type IncarnationId,
  isAppError,
  type Lsn,
  parseLsn,
  type VirtualClusterId,
} from '../base/index.ts';
import { systemClock, systemRng } from '../daemon/index.ts';
import type { Instance } from '../instance/index.ts';
import { parseRelationPath } from '../pg/index.ts';
import { runCaptureBase } from './capture/capture-base.ts';
import { NO_PAGES } from './capture/page-ranges.ts';
import { INCREMENTAL_RULES, type IncrementalRules } from './capture/plan-onto.ts';
import type { BaseSummary, CaptureBaseResult, IncarnationRecord } from './store-contract.ts';
import { createRestCell } from './worker/limiter.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const ROWS = 50_000;

let rig: BackupRig;
const sql = (text: string) => withTenant(rig.source, ROOT, (client) => client.query(text));

before(async () => {
  rig = await BackupRig.open();
  await sql(`CREATE TABLE t (id int PRIMARY KEY, note text);
             INSERT INTO t SELECT n, md5(n::text) || repeat('x', 200) FROM generate_series(1, ${ROWS}) n`);
  await sql('VACUUM (FREEZE, ANALYZE) t');
});

after(async () => {
  await rig?.[Symbol.asyncDispose]();
});

async function assertRefused(run: Promise<unknown>, { code, message }: { code: ErrorCode; message: RegExp }) {
  await assert.rejects(run, (error) => {
    assert.ok(isAppError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  });
}

/** Recovers a base to its own end, on a virtual cluster of its own. */
async function restore({ subdirectory }: BaseSummary): Promise<{ instance: Instance; id: VirtualClusterId }> {
  const target = await rig.beginTarget();
  const result = await rig.materialize(target, { collection: rig.bases, subdirectory });
  return { instance: await rig.serve(target, result), id: target.virtualClusterId };
}

async function damageOf(id: VirtualClusterId): Promise<readonly string[]> {
  return findDamage({ store: rig.store.directory, virtualClusterId: id, database: 'defaultdb' });
}

/** In this process, by other rules than the right ones. */
function captureBy(rules: Partial<IncrementalRules>, onto: string): Promise<CaptureBaseResult> {
  return runCaptureBase(
    rig.baseRequest(onto),
    {
      clock: systemClock(),
      rng: systemRng(),
      restCell: createRestCell(),
      onProgress: () => undefined,
      signal: NEVER,
    },
    { ...INCREMENTAL_RULES, ...rules },
  );
}

describe('an incremental base', () => {
  it('holds everything, though it has read and stored only what changed', async () => {
    const full = await rig.captureBase(null);
    const idle = await rig.captureBase(full.base.subdirectory);
    await sql(`UPDATE t SET note = 'changed' WHERE id % 5000 = 0`);
    const changed = await rig.captureBase(idle.base.subdirectory);
    const tablePages = Math.ceil((ROWS * 260) / 8192);
    assert.ok(full.pagesRead > tablePages, `${full.pagesRead} pages of all`);
    // Of an idle instance it reads the small forks that no log tells of, and a few pages of catalogs.
    assert.ok(idle.pagesRead < full.pagesRead / 4, `${idle.pagesRead} pages of nothing`);
    // Ten rows: their old and new heap pages, their index pages.
    assert.ok(
      changed.pagesRead < idle.pagesRead + 100,
      `${changed.pagesRead} pages, ${idle.pagesRead} when idle`,
    );
    assert.ok(changed.base.storedBytes < full.base.storedBytes / 10n, `${changed.base.storedBytes} bytes`);
    for (const { fullReason } of [idle, changed]) assert.equal(fullReason, null);
    assert.equal(changed.base.baseSubdirectory, idle.base.subdirectory);
    assert.equal(changed.base.startTime, idle.base.endTime);
    assert.equal(full.base.bytes > 0n && full.base.baseSubdirectory, null);

    const expected = await withTenant(rig.source, ROOT, digestTables);
    for (const { base } of [full, idle, changed]) {
      const { instance, id } = await restore(base);
      const digests = await withTenant(instance, ROOT, digestTables);
      if (base === changed.base) assert.deepEqual(digests, expected);
      else assert.notDeepEqual(digests, expected);
      assert.deepEqual(await damageOf(id), []);
      await instance.stop({ mode: 'immediate', signal: NEVER });
    }
  });

  it('needs objects of older bases, and says which', async () => {
    const full = await rig.captureBase(null);
    const { base } = await rig.captureBase(full.base.subdirectory);
    const options = { collection: rig.bases, subdirectory: base.subdirectory, key: rig.key, signal: NEVER };
    assert.deepEqual(await rig.reader.missingFiles(options), []);
    const packs = (await filesBelow(rig.bases.directory)).filter(
      (path) => path.startsWith(full.base.subdirectory) && path.endsWith('.pack'),
    );
    for (const pack of packs) await rm(join(rig.bases.directory, pack));
    assert.deepEqual((await rig.reader.missingFiles(options)).toSorted(), packs.toSorted());
    await assertRefused(rig.captureBase(base.subdirectory), { code: 'data_corrupt', message: /is missing/ });
  });

  it('copies visibility maps whole: the log does not name their pages', async () => {
    await sql(`CREATE TABLE seen (id int); INSERT INTO seen SELECT generate_series(1, 100000)`);
    await sql('CREATE INDEX ON seen (id)');
    await sql('VACUUM (FREEZE, ANALYZE) seen');
    const full = await rig.captureBase(null);
    await sql('DELETE FROM seen WHERE id % 10 = 0');
    await sql('CHECKPOINT');
    const count = async (base: BaseSummary) => {
      const { instance, id } = await restore(base);
      const counts = await withTenant(instance, ROOT, countWithDefaultPlans);
      const damage = await damageOf(id);
      await instance.stop({ mode: 'immediate', signal: NEVER });
      return { rows: counts.get('public.seen'), damage };
    };
    const right = await rig.captureBase(full.base.subdirectory);
    assert.deepEqual(await count(right.base), { rows: 90_000, damage: [] });
    // The control: with visibility maps taken as the log tells, the test finds the rows that were deleted.
    const believesLog: IncrementalRules['planIncremental'] = (files, options) =>
      INCREMENTAL_RULES.planIncremental(files, options).map((file) =>
        parseRelationPath(file.path)?.fork === 'vm' && options.older.pagesOf(file.path) === file.bytes / 8192
          ? { ...file, changed: NO_PAGES }
          : file,
      );
    const wrong = await count(
      (await captureBy({ planIncremental: believesLog }, full.base.subdirectory)).base,
    );
    assert.ok(wrong.rows !== 90_000 || wrong.damage.length > 0, 'the control was not found out');
    await sql('DROP TABLE seen');
  });

  it('has pages of which only hints changed', async () => {
    await sql('CREATE TABLE hinted (id int)');
    await sql('INSERT INTO hinted SELECT generate_series(1, 20000)');
    const full = await rig.captureBase(null);
    // A crash loses the hints that were not yet set; a plain SELECT sets them, and the log has the pages whole.
    await rig.source.stop({ mode: 'immediate', signal: NEVER });
    await rig.source.start({ signal: NEVER });
    await sql('SELECT count(*) FROM hinted');
    await sql('CHECKPOINT');
    const unexplained = async ({ subdirectory, startLsn }: BaseSummary) => {
      await sql('CHECKPOINT');
      const target = await rig.beginTarget();
      await rig.materialize(target, { collection: rig.bases, subdirectory });
      const { dataDirectory } = rig.source;
      return unexplainedBlocks({ dataDirectory, materialized: target.targetDirectory, startLsn });
    };
    const right = await rig.captureBase(full.base.subdirectory);
    assert.equal(right.fullReason, null);
    assert.deepEqual(await unexplained(right.base), []);
    // The control: one relation left out of what changed.
    const [row] = (await sql(`SELECT pg_relation_filenode('hinted')::int AS filenode`)).rows;
    const leavesOut: IncrementalRules['readChanges'] = async (...args) => {
      const changes = await INCREMENTAL_RULES.readChanges(...args);
      if (changes.kind === 'unknown') return changes;
      const { pages } = changes;
      return {
        kind: 'known',
        pages: {
          changedBlocks: (of, range) => (of.filenode === row.filenode ? [] : pages.changedBlocks(of, range)),
        },
      };
    };
    const wrong = await captureBy({ readChanges: leavesOut }, full.base.subdirectory);
    assert.ok((await unexplained(wrong.base)).length > 0, 'the control was not found out');
  });

  it('reads packs anew of which little is left', async () => {
    await sql(`CREATE TABLE worn AS SELECT n AS id, md5(n::text) AS note, repeat('y', 500) AS fill
                 FROM generate_series(1, 30000) n`);
    const full = await rig.captureBase(null, { packBytesMax: 1 });
    await sql(`UPDATE t SET note = note || 'z'; UPDATE worn SET note = 'w' WHERE id > 300`);
    await sql('VACUUM FULL t');
    const { base } = await rig.captureBase(full.base.subdirectory);
    const options = { collection: rig.bases, subdirectory: base.subdirectory, key: rig.key, signal: NEVER };
    assert.deepEqual(await rig.reader.missingFiles(options), []);
    const { instance, id } = await restore(base);
    assert.deepEqual(
      await withTenant(instance, ROOT, digestTables),
      await withTenant(rig.source, ROOT, digestTables),
    );
    assert.deepEqual(await damageOf(id), []);
    await instance.stop({ mode: 'immediate', signal: NEVER });
  });
});

const NO_ANCESTOR = { code: 'object_state', message: /is no ancestor/ } as const;

function recordOf(
  { identity }: Instance,
  fork: { readonly timelineId: number; readonly beginLsn: Lsn } | null,
): IncarnationRecord {
  const { incarnation, systemIdentifier, engineMajor } = identity;
  return {
    incarnation,
    parentIncarnation: fork === null ? null : rig.source.identity.incarnation,
    forkLsn: fork?.beginLsn ?? null,
    systemIdentifier,
    engineMajor,
    timelines: [fork ?? { timelineId: 1, beginLsn: 0n as Lsn }],
  };
}

/** What a restored instance is as a branch of the source: where it left it is in its history file. */
async function branchOf(instance: Instance) {
  const history = await readFile(join(instance.dataDirectory, 'pg_wal', '00000002.history'), 'utf8');
  const beginLsn = parseLsn(/^1\t(\S+)/m.exec(history)?.[1] ?? '');
  const { dataDirectory, socketDirectory, identity } = instance;
  const { virtualClusterId, virtualClusterName } = rig.source.identity;
  return {
    record: recordOf(instance, { timelineId: 2, beginLsn }),
    source: { ...identity, dataDirectory, socketDirectory, virtualClusterId, virtualClusterName },
  };
}

describe('a base is refused', () => {
  it('on top of one of another incarnation, though system, timeline and position fit', async () => {
    const { base } = await rig.captureBase(null);
    const other = '0190c2a4-0000-7000-8000-000000000001' as IncarnationId;
    await assertRefused(rig.captureBase(base.subdirectory, { source: { incarnation: other } }), NO_ANCESTOR);
    assert.equal((await rig.reader.list(rig.bases, { signal: NEVER })).at(-1), base.subdirectory);
  });

  it('on top of one of a sibling, or of the parent after it was left', async () => {
    const parent = await rig.captureBase(null);
    const branches = [await restore(parent.base), await restore(parent.base)];
    const [one, other] = await Promise.all(branches.map(({ instance }) => branchOf(instance)));
    assert.ok(one !== undefined && other !== undefined);
    const incarnations = [recordOf(rig.source, null), one.record, other.record];
    const later = await rig.captureBase(parent.base.subdirectory);
    for (const [index, { instance }] of branches.entries()) {
      await withTenant(instance, ROOT, (client) => client.query(`DELETE FROM t WHERE id % 10 = ${index}`));
    }
    const ofOne = await rig.captureBase(null, { source: one.source, incarnations });
    // The two branches have the same timeline and nearly the same positions.
    assert.equal(ofOne.base.timelineId, 2);
    const onTopOf = (base: BaseSummary, { source }: typeof one) =>
      rig.captureBase(base.subdirectory, { source, incarnations });
    await assertRefused(onTopOf(ofOne.base, other), NO_ANCESTOR);
    await assertRefused(onTopOf(later.base, one), NO_ANCESTOR);
    await assertRefused(rig.captureBase(ofOne.base.subdirectory, { incarnations }), NO_ANCESTOR);
    const child = await onTopOf(ofOne.base, one);
    assert.equal(child.fullReason, null);
    const heir = await onTopOf(parent.base, other);
    // No vault has what the parent wrote, so what changed over the fork is not known.
    assert.match(heir.fullReason ?? '', /on timeline 1 is not known/);
    for (const [index, { base }] of [child, heir].entries()) {
      const { instance } = await restore(base);
      const digests = await Promise.all(
        [instance, branches[index]?.instance ?? instance].map((each) => withTenant(each, ROOT, digestTables)),
      );
      assert.deepEqual(digests[0], digests[1]);
      await instance.stop({ mode: 'immediate', signal: NEVER });
    }
    for (const { instance } of branches) await instance.stop({ mode: 'immediate', signal: NEVER });
  });

  it('on top of one that is not there', async () => {
    await assertRefused(rig.captureBase('2001/01/01-000000.00'), {
      code: 'backup_not_found',
      message: /no completed/,
    });
  });
});
