import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../../base/index.ts';
import type { BackupObject } from '../../timeline/index.ts';
import { DescribedBackups } from './described-backups.ts';

const backup = (number: number) => ({
  clusterId: 'cluster',
  virtualClusterId: 3 as VirtualClusterId,
  incarnation: 'life' as IncarnationId,
  subdirectory: '2026/01/02-030405.00',
  targetLsn: BigInt(number) as Lsn,
  endTime: 1n as Timestamp,
});

const table = (name: string, characters: number): BackupObject => ({
  database: 'shop',
  schema: 'public',
  name,
  kind: 'table',
  sizeBytes: null,
  rows: null,
  definition: 'x'.repeat(characters),
});

describe('definitions of backups that were asked for lately', () => {
  it('are those of that backup', () => {
    const described = new DescribedBackups();
    described.put(backup(1), [table('one', 10)]);
    assert.equal(described.get(backup(1))?.[0]?.name, 'one');
    assert.equal(described.get(backup(2)), undefined);
    assert.equal(described.get({ ...backup(1), incarnation: 'other' as IncarnationId }), undefined);
  });

  it('are not remembered when they are long, and forgotten from the oldest on when they are many', () => {
    const described = new DescribedBackups();
    described.put(backup(0), [table('long', 3_000_000)]);
    assert.equal(described.get(backup(0)), undefined);
    for (let number = 1; number <= 4; number++) described.put(backup(number), [table('t', 1_900_000)]);
    assert.ok(described.get(backup(1)) !== undefined);
    described.put(backup(5), [table('t', 1_900_000)]);
    assert.equal(described.get(backup(2)), undefined, 'the first one was asked for since');
    for (const kept of [1, 3, 4, 5]) assert.ok(described.get(backup(kept)) !== undefined, String(kept));
  });
});
