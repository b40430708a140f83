import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Lsn } from '../../base/index.ts';
import { FORK } from '../../pg/index.ts';
import type { AddedFiles, ImageCoverage, WantedFork } from './contract.ts';
import { LogOriginsBuilder } from './log-origins.ts';
import { forkKey, missingCatalogs, missingDatabase, provePart } from './prove-part.ts';

/** What the log does after the image, in its order. */
type Event =
  | { readonly kind: 'create'; readonly database: number; readonly filenode: number }
  | { readonly kind: 'copy'; readonly database: number; readonly from: number }
  | { readonly kind: 'log'; readonly database: number; readonly from: number };

/** Files of each database when the image was made. */
type Image = ReadonlyMap<number, readonly number[]>;

function coverageOf(
  image: Image,
  events: readonly Event[],
  isKept: (database: number, file: number) => boolean,
) {
  const builder = new LogOriginsBuilder();
  const files = new Map(Array.from(image, ([database, held]) => [database, new Set(held)]));
  for (const [index, event] of events.entries()) {
    const lsn = BigInt(index + 1) as Lsn;
    const { database: databaseOid } = event;
    const key = (filenode: number) => forkKey(filenode, FORK.main);
    if (event.kind === 'create') {
      builder.addFork({ databaseOid, key: key(event.filenode), lsn });
      files.set(databaseOid, (files.get(databaseOid) ?? new Set()).add(event.filenode));
      continue;
    }
    const source = files.get(event.from) ?? new Set<number>();
    files.set(databaseOid, new Set(source));
    builder.addDatabase({ databaseOid, fromDatabaseOid: event.kind === 'copy' ? event.from : null, lsn });
    if (event.kind === 'copy') continue;
    for (const filenode of source) builder.addFork({ databaseOid, key: key(filenode), lsn });
  }
  const databases = Array.from(image, ([databaseOid, held]) => {
    const sorted = held.toSorted((left, right) => left - right);
    return {
      databaseOid,
      hasCatalogs: sorted.every((file) => isKept(databaseOid, file)),
      kept: Uint32Array.from(sorted.filter((file) => isKept(databaseOid, file))),
      leftOut: Uint32Array.from(sorted.filter((file) => !isKept(databaseOid, file))),
    };
  });
  return { coverage: { databases, origins: builder.build(null) } satisfies ImageCoverage, files };
}

/** What replay really comes to: the files whose content is right. */
function replay(image: Image, events: readonly Event[], isKept: (database: number, file: number) => boolean) {
  const right = new Map(
    Array.from(image, ([database, held]) => [
      database,
      new Set(held.filter((file) => isKept(database, file))),
    ]),
  );
  const present = new Map(Array.from(image, ([database, held]) => [database, new Set(held)]));
  for (const event of events) {
    const { database } = event;
    if (event.kind === 'create') {
      right.set(database, (right.get(database) ?? new Set()).add(event.filenode));
      present.set(database, (present.get(database) ?? new Set()).add(event.filenode));
    } else {
      // A log of every page holds what the original held, whatever is here of it.
      const from = event.kind === 'copy' ? right : present;
      right.set(database, new Set(from.get(event.from)));
      present.set(database, new Set(present.get(event.from)));
    }
  }
  return right;
}

const DATABASES = [5, 16_400, 16_500];
/** Databases made by the log have numbers of their own, each made once. */
const MADE = [17_000, 17_001, 17_002];

const images = fc
  .tuple(...DATABASES.map(() => fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { maxLength: 6 })))
  .map((held): Image => new Map(DATABASES.map((database, index) => [database, held[index] ?? []])));

/** Numbers of files are never given twice, as long as a file of that number is there. */
const histories = fc
  .array(
    fc.record({ kind: fc.constantFrom('create', 'copy', 'log'), which: fc.nat(1000), from: fc.nat(1000) }),
    {
      maxLength: 12,
    },
  )
  .map((steps) => {
    const known = [...DATABASES];
    let nextFile = 100;
    return steps.flatMap(({ kind, which, from }): Event[] => {
      const database = known[which % known.length] ?? 5;
      if (kind === 'create') return [{ kind, database, filenode: nextFile++ }];
      const made = MADE[known.length - DATABASES.length];
      if (made === undefined) return [];
      const source = known[from % known.length] ?? 5;
      known.push(made);
      return [{ kind: kind === 'copy' ? 'copy' : 'log', database: made, from: source }];
    });
  });

const wantedOf = (files: ReadonlyMap<number, ReadonlySet<number>>): WantedFork[] =>
  Array.from(files, ([databaseOid, held]) =>
    Array.from(held, (filenode) => ({ databaseOid, filenode, fork: 'main' as const })),
  ).flat();

describe('the proof of a part', () => {
  it('says of every file what replay really makes of it', () => {
    fc.assert(
      fc.property(images, histories, fc.func(fc.boolean()), (image, events, isKept) => {
        const { coverage, files } = coverageOf(image, events, isKept);
        const right = replay(image, events, isKept);
        for (const fork of wantedOf(files)) {
          const { missing, lost } = provePart([fork], coverage);
          assert.deepEqual(lost, []);
          assert.equal(missing.length === 0, right.get(fork.databaseOid)?.has(fork.filenode) === true);
        }
      }),
    );
  });

  it('is reached by adding what is missing, once', () => {
    fc.assert(
      fc.property(images, histories, fc.func(fc.boolean()), (image, events, isKept) => {
        const { coverage, files } = coverageOf(image, events, isKept);
        const wanted = wantedOf(files);
        const added = new Set(provePart(wanted, coverage).missing.flatMap(keysOf));
        const withAdded = (database: number, file: number) =>
          isKept(database, file) || added.has(`${database} ${file}`);
        const again = coverageOf(image, events, withAdded);
        assert.deepEqual(provePart(wanted, again.coverage), { missing: [], lost: [] });
        const right = replay(image, events, withAdded);
        for (const { databaseOid, filenode } of wanted) assert.ok(right.get(databaseOid)?.has(filenode));
      }),
    );
  });

  it('finds what neither image nor log has', () => {
    const { coverage } = coverageOf(new Map([[5, [1]]]), [], () => true);
    const forks: WantedFork[] = [
      { databaseOid: 5, filenode: 2, fork: 'main' },
      { databaseOid: 6, filenode: 1, fork: 'main' },
    ];
    assert.deepEqual(provePart(forks, coverage), { missing: [], lost: forks });
    assert.equal(missingCatalogs(6, coverage), null);
  });

  it('looks for the fork that the content of an unlogged relation comes from', () => {
    const builder = new LogOriginsBuilder();
    builder.addFork({ databaseOid: 5, key: forkKey(9, FORK.init), lsn: 1n as Lsn });
    const coverage = { databases: [], origins: builder.build(null) };
    assert.deepEqual(provePart([{ databaseOid: 5, filenode: 9, fork: 'init' }], coverage).lost, []);
    assert.equal(provePart([{ databaseOid: 5, filenode: 9, fork: 'main' }], coverage).lost.length, 1);
  });

  it('finds catalogs where a database was copied from', () => {
    const image: Image = new Map([
      [5, [1, 2]],
      [16_400, [1]],
    ]);
    const events: Event[] = [
      { kind: 'copy', database: 17_000, from: 5 },
      { kind: 'copy', database: 17_001, from: 17_000 },
      { kind: 'log', database: 17_002, from: 5 },
    ];
    const { coverage } = coverageOf(image, events, (database) => database !== 5);
    assert.deepEqual(missingCatalogs(17_001, coverage), [{ databaseOid: 5, what: 'catalogs' }]);
    assert.deepEqual(missingDatabase(17_001, coverage), [{ databaseOid: 5, what: 'everything' }]);
    assert.deepEqual(missingCatalogs(17_002, coverage), []);
    assert.deepEqual(missingCatalogs(16_400, coverage), []);
  });
});

function keysOf({ databaseOid, what }: AddedFiles): readonly string[] {
  return typeof what === 'string' ? [] : what.map((filenode) => `${databaseOid} ${filenode}`);
}
