/** Pages as they lie on disk against what pageinspect says of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { changeMixed, createMixed, MIXED_WORKLOAD_SETTINGS } from '../../test/harness/mixed-workload.ts';
import { formatLsn } from '../base/index.ts';
import { PAGE_BYTES, PageBuffer } from './page.ts';

it('positions and checksums of pages of every kind are those that pageinspect finds', async () => {
  await using engine = await BareEngine.open({ settings: MIXED_WORKLOAD_SETTINGS });
  await engine.start();
  await createMixed(engine);
  await changeMixed(engine, 0);
  // Then nothing is left that reading would change, and what the engine reads is what lies on disk.
  await engine.use('postgres', (client) => client.query('VACUUM FREEZE'));
  await engine.stop('fast');
  await engine.start();
  const kinds = new Set<string>();
  let pages = 0;
  await engine.use('postgres', async (client) => {
    const { rows } = await client.query<{ line: string; path: string; kind: string }>(`
      SELECT pg_relation_filepath(c.oid) AS path, coalesce(a.amname, c.relkind::text) AS kind,
        string_agg(h.lsn || ' ' || page_checksum(p, b::int) || ' ' || h.upper, E'\\n' ORDER BY b) AS line
      FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam,
        generate_series(0, pg_relation_size(c.oid) / 8192 - 1) b, get_raw_page(c.oid::regclass::text, b::int) p, page_header(p) h
      WHERE c.relkind IN ('r', 'i', 't', 'm', 'S') AND c.relpersistence = 'p' AND c.oid >= 16384
      GROUP BY 1, 2`);
    for (const { path, kind, line } of rows) {
      const bytes = readFileSync(join(engine.dataDirectory, path));
      const buffer = new PageBuffer({ pagesMax: bytes.length / PAGE_BYTES });
      buffer.bytes.set(bytes);
      const ours = Array.from({ length: buffer.pagesMax }, (_, page) => {
        const [checksum, upper] = [8, 14].map((at) => buffer.view.getUint16(page * PAGE_BYTES + at, true));
        // pageinspect shows the checksum as a signed number; of pages never written to it makes one up.
        const signed = upper === 0 ? null : ((checksum ?? 0) << 16) >> 16;
        return `${formatLsn(buffer.lsn(page))} ${signed} ${upper}`;
      });
      const theirs = line.split('\n').map((one) => one.replace(/ \S+ 0$/, ' null 0'));
      assert.deepEqual(ours, theirs, path);
      assert.equal(buffer.firstBadPage({ count: buffer.pagesMax, firstBlock: 0 }), -1, path);
      kinds.add(kind);
      pages += ours.length;
    }
  });
  assert.ok(pages > 200, `${pages} pages`);
  assert.deepEqual([...kinds].sort(), [
    'S',
    'bloom',
    'brin',
    'btree',
    'gin',
    'gist',
    'hash',
    'heap',
    'spgist',
  ]);
});
