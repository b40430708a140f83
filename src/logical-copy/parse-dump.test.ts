import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FrameGatherer } from './frame-gatherer.ts';
import { parseDump } from './parse-dump.ts';

const restrictKey = 'abc';
const FAKE = '--\n-- TOC entry 9 (class 1 OID 2)\n-- Name: x; Type: TABLE; Schema: y; Owner: -\n--\n';

/** As pg_dump --verbose writes it. */
function dumpOf(pieces: readonly { readonly sql: string; readonly type: string }[]): string {
  const entries = pieces.map(
    ({ sql, type }, index) =>
      `--\n-- TOC entry ${index + 1} (class 1259 OID ${100 + index})\n-- Dependencies: ${index} 7\n-- Name: a b; Type: ${type}; Schema: public; Owner: -\n--\n\n${sql}\n\n\n`,
  );
  return `--\n-- PostgreSQL database dump\n--\n\n\\restrict ${restrictKey}\n\n-- Started on today\n\nSET x = 1;\n\n${entries.join('')}-- Completed on today\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict ${restrictKey}\n\n`;
}

describe('a dump', () => {
  test('is taken apart at the comments that pg_dump writes, whatever strings and names hold', () => {
    const quotings = [
      (text: string) => `SELECT '${text.replaceAll("'", "''")}';`,
      (text: string) => `SELECT E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}';`,
      (text: string) => `CREATE TABLE "${text.replaceAll('"', '""')}" ();`,
      (text: string) => `CREATE FUNCTION f() AS $_tag$${text.replaceAll('$_tag$', '')}$_tag$;`,
    ];
    const texts = fc.array(
      fc.constantFrom(FAKE, "'", '"', '$', '$$', '\\', '\n', '--', '/*', '*/', 'e', 'é', ' '),
      {
        maxLength: 12,
      },
    );
    const pieces = fc.array(
      fc.record({
        text: texts,
        quoting: fc.nat({ max: quotings.length - 1 }),
        type: fc.constantFrom('TABLE', 'FK CONSTRAINT'),
      }),
    );
    fc.assert(
      fc.property(pieces, (all) => {
        const made = all.map(({ text, quoting, type }) => ({
          sql: quotings[quoting]?.(text.join('').replaceAll('\0', '')) ?? '',
          type,
        }));
        const parsed = parseDump(dumpOf(made), { restrictKey });
        assert.deepEqual(
          parsed,
          made.map(({ sql, type }, index) => ({
            id: index + 1,
            classOid: 1259,
            oid: 100 + index,
            type,
            dependencies: [index, 7],
            sql,
          })),
        );
      }),
    );
  });

  test('that is cut off is refused', () => {
    const dump = dumpOf([{ sql: 'SELECT 1;', type: 'TABLE' }]);
    for (const length of [dump.length / 2, dump.lastIndexOf('\\unrestrict')]) {
      assert.throws(() => parseDump(dump.slice(0, length), { restrictKey }), { code: 'copy_failed' });
    }
    assert.throws(() => parseDump(dump.replace('SELECT 1;', "SELECT '1;"), { restrictKey }), {
      code: 'copy_failed',
    });
  });
});

describe('what libpq writes', () => {
  test('is passed on when it waits for an answer, however it was cut', () => {
    const message = (type: string, body: string) => {
      const bytes = Buffer.alloc(5 + body.length);
      bytes.write(type, 0, 'latin1');
      bytes.writeUInt32BE(4 + body.length, 1);
      bytes.write(body, 5, 'latin1');
      return bytes;
    };
    const startup = Buffer.concat([Buffer.from([0, 0, 0, 9]), Buffer.from([0, 3, 0, 0, 0])]);
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 20 }), { minLength: 1 }),
        fc.array(fc.integer({ min: 1, max: 9 })),
        (queries, cuts) => {
          const gatherer = new FrameGatherer();
          assert.deepEqual(Buffer.from(gatherer.add(startup) ?? []), startup);
          for (const query of queries) {
            const bytes = message('Q', query.replaceAll(/[^ -~]/g, '?'));
            let at = 0;
            for (const cut of cuts) {
              if (at + cut >= bytes.length) break;
              assert.equal(gatherer.add(bytes.subarray(at, at + cut)), null);
              at += cut;
            }
            assert.deepEqual(Buffer.from(gatherer.add(bytes.subarray(at)) ?? []), bytes);
          }
          assert.equal(gatherer.add(message('X', '')), null, 'nobody answers Terminate');
        },
      ),
    );
  });
});
