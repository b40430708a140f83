import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type pg from 'pg';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import type { ColumnType } from '../control/index.ts';
import { TYPE_OID } from '../pg/index.ts';
import { decodeBinaryParameter, encodeBinary } from './binary-format.ts';

let bed: TestBed;
let client: pg.Client;
before(async () => {
  bed = await TestBed.start();
  client = await connect(await bed.open());
  await client.query("SET TimeZone = 'UTC'");
});
after(async () => {
  await client.end();
  await bed[Symbol.asyncDispose]();
});

/** Texts and binary forms as Postgres itself writes them for the values given. */
async function asPostgresWrites(
  type: ColumnType,
  values: readonly string[],
): Promise<{ text: string; binary: Buffer }[]> {
  const send = {
    int8: 'int8send',
    text: 'textsend',
    bool: 'boolsend',
    float8: 'float8send',
    numeric: 'numeric_send',
    timestamptz: 'timestamptz_send',
    interval: 'interval_send',
    bytea: 'byteasend',
    jsonb: 'jsonb_send',
  }[type]; // One line per type would say no more.
  const { rows } = await client.query(
    `SELECT v::${type}::text AS text, ${send}(v::${type}) AS binary FROM unnest($1::text[]) AS u(v)`,
    [values],
  );
  return rows;
}

const SAMPLES: Readonly<Record<ColumnType, readonly string[]>> = {
  int8: ['0', '-1', '9223372036854775807', '-9223372036854775808', '42'],
  text: ['', 'ä€😀', 'line\nline', "it's"],
  bool: ['t', 'f'],
  float8: ['0', '-0', '1.5', '1e300', '-2.5e-10', 'NaN', 'Infinity', '-Infinity'],
  numeric: [
    '0',
    '0.00',
    '-0.5',
    '1',
    '10000',
    '100000000',
    '12345678.9',
    '0.0001',
    '0.00010',
    '0.00001234',
    '1e20',
    '-99999.99999',
    'NaN',
    'Infinity',
    '-Infinity',
    '123456789012345678901234567890.123456789',
  ],
  timestamptz: [
    '2024-04-18 10:07:45.000001+00',
    '1999-12-31 23:59:59.9+05:30',
    '2000-01-01 00:00:00+00',
    '0044-03-15 12:00:00+00 BC',
    '20000-01-01 00:00:00-08',
    'infinity',
    '-infinity',
  ],
  interval: [
    '0',
    '1 year 2 mons 3 days 04:05:06.789',
    '-1 year -2 mons +3 days -04:05:06',
    '-00:00:00.000001',
    '1 mon',
    '-3 days',
    '100:00:00',
    '25 years',
    'infinity',
    '-infinity',
  ],
  bytea: ['\\x', '\\x00ff10'],
  jsonb: ['null', '{"a": [1, "x"]}', '"ä"'],
};

test('binary forms are those of Postgres', async () => {
  for (const [type, values] of Object.entries(SAMPLES) as [ColumnType, readonly string[]][]) {
    for (const { text, binary } of await asPostgresWrites(type, values)) {
      assert.equal(encodeBinary(type, text).toString('hex'), binary.toString('hex'), `${type} ${text}`);
    }
  }
});

test('binary forms of random values are those of Postgres', async () => {
  const digits = fc.stringMatching(/^-?[0-9]{1,30}(\.[0-9]{0,30})?$/);
  const when = fc
    .bigInt({ min: -200_000_000_000_000_000n, max: 200_000_000_000_000_000n })
    .map((us) => `epoch ${us}`);
  const interval = fc
    .tuple(
      fc.integer({ min: -1e5, max: 1e5 }),
      fc.integer({ min: -1e5, max: 1e5 }),
      fc.integer({ min: -1e9, max: 1e9 }),
    )
    .map(([months, days, ms]) => `${months} mons ${days} days ${ms} milliseconds`);
  for (const [type, arbitrary] of [
    ['numeric', digits],
    ['interval', interval],
    ['float8', fc.double().map(String)],
  ] as const) {
    const values = fc.sample(arbitrary, 300);
    for (const { text, binary } of await asPostgresWrites(type, values)) {
      assert.equal(encodeBinary(type, text).toString('hex'), binary.toString('hex'), `${type} ${text}`);
    }
  }
  const offsets = fc.sample(when, 300).map((text) => text.slice(6));
  const { rows } = await client.query(
    "SELECT t::text AS text, timestamptz_send(t) AS binary FROM unnest($1::int8[]) AS u(us), LATERAL (SELECT to_timestamp(0) + us * interval '1 microsecond' AS t) AS x",
    [offsets],
  );
  for (const { text, binary } of rows) {
    assert.equal(encodeBinary('timestamptz', text).toString('hex'), binary.toString('hex'), text);
  }
});

test('what is no value of the type is an error', () => {
  for (const [type, text] of [
    ['numeric', '1.2.3'],
    ['numeric', ''],
    ['interval', '1 fortnight'],
    ['interval', ''],
    ['timestamptz', '2024-04-18'],
  ] as const) {
    assert.throws(() => encodeBinary(type, text), { code: 'parameter_invalid' }, `${type} ${text}`);
  }
});

test('binary parameters become text, those of unknown types are refused', () => {
  const int4 = Buffer.alloc(4);
  int4.writeInt32BE(-7);
  assert.equal(decodeBinaryParameter(TYPE_OID.int4, int4), '-7');
  assert.equal(decodeBinaryParameter(TYPE_OID.int2, int4.subarray(2)), '-7');
  assert.equal(decodeBinaryParameter(0, Buffer.from('ä')), 'ä');
  const float4 = Buffer.alloc(4);
  float4.writeFloatBE(0.5);
  assert.equal(decodeBinaryParameter(TYPE_OID.float4, float4), '0.5');
  assert.throws(() => decodeBinaryParameter(TYPE_OID.int8, int4), { code: 'parameter_invalid' });
  assert.throws(() => decodeBinaryParameter(TYPE_OID.jsonb, int4), { code: 'feature_not_supported' });
});
