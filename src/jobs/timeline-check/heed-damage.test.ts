import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BaseSummary } from '../../timeline/index.ts';
import { heedDamage } from './heed-damage.ts';

const LIFE = '11111111-1111-4111-8111-111111111111';
// Only what is looked at.
const newest = {
  subdirectory: '2026/01/02-000000.00',
  incarnation: LIFE,
  startLsn: 1000n,
} as unknown as BaseSummary;
const none = { kind: 'none' } as const;
const damaged = (rest: object) => [{ object: 'x', reason: 'flipped', bases: [], log: null, ...rest }];

test('a base that is damaged, or log since it that is, brings a full base; nothing else does', () => {
  const heed = (rest: object) => heedDamage(none, { newest, damage: damaged(rest) });
  assert.deepEqual(heed({ bases: ['2026/01/01-000000.00', newest.subdirectory] }), {
    kind: 'full',
    reason: 'x is damaged',
  });
  assert.equal(heed({ log: { incarnation: LIFE, endLsn: '1001' } }).kind, 'full');
  assert.equal(heed({ log: { incarnation: LIFE, endLsn: '1000' } }).kind, 'none', 'before the base');
  assert.equal(heed({ log: { incarnation: LIFE.replaceAll('1', '2'), endLsn: '9999' } }).kind, 'none');
  assert.equal(heed({ bases: ['2026/01/01-000000.00'] }).kind, 'none', 'the newest does not need it');
  const first = { kind: 'full', reason: 'there is no base yet' } as const;
  assert.equal(heedDamage(first, { newest: undefined, damage: damaged({}) }), first);
  const onto = { kind: 'incremental', onto: newest.subdirectory, reason: 'log' } as const;
  assert.equal(heedDamage(onto, { newest, damage: damaged({ bases: [newest.subdirectory] }) }).kind, 'full');
  assert.equal(heedDamage(onto, { newest, damage: [] }), onto);
});
