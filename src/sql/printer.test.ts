import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Statement, StatementKind } from './ast.ts';
import { parseStatement } from './parser.ts';
import { printStatement } from './printer.ts';
import { redactUri } from './redact.ts';
import { rewritten, statementArbitraries } from './testing.ts';

function reparse(text: string): Statement | undefined {
  return parseStatement(text)?.node;
}

describe('printStatement', () => {
  for (const kind of Object.keys(statementArbitraries) as StatementKind[]) {
    it(`prints ${kind} so that it parses to the same tree`, () => {
      fc.assert(
        fc.property(statementArbitraries[kind], (statement) => {
          assert.deepEqual(reparse(printStatement(statement)), statement);
        }),
        { numRuns: 500 },
      );
    });
  }

  it('prints trees that stay the same under other blanks, comments and capitals', () => {
    // What is PostgreSQL's own in it is kept as it was written.
    const { exclude_table_data: _, ...wholly } = statementArbitraries;
    const written = fc
      .oneof(...Object.values(wholly))
      .chain((statement) => rewritten(printStatement(statement)).map((text) => ({ statement, text })));
    fc.assert(
      fc.property(written, ({ statement, text }) => {
        assert.deepEqual(reparse(text), statement);
      }),
      { numRuns: 2000 },
    );
  });

  const canonical: readonly (readonly [string, string])[] = [
    ['show tenants', 'SHOW VIRTUAL CLUSTERS'],
    ['CREATE VIRTUAL CLUSTER dest-system', 'CREATE VIRTUAL CLUSTER "dest-system"'],
    ['show cluster settings', 'SHOW PUBLIC CLUSTER SETTINGS'],
    ["set cluster setting a.b to 'x'", "SET CLUSTER SETTING a.b = 'x'"],
    ["backup a.* into 'u' with detached", "BACKUP TABLE a.* INTO 'u' WITH OPTIONS (detached)"],
    [
      "BACKUP INTO 'u' WITH execution locality 'region=a', KMS=('k')",
      "BACKUP INTO 'u' WITH OPTIONS (EXECUTION LOCALITY = 'region=a', kms = 'k')",
    ],
    ["restore system users from 'Latest' in ($1)", 'RESTORE SYSTEM USERS FROM LATEST IN $1'],
    ["show backup latest in 'u'", "SHOW BACKUP FROM LATEST IN 'u'"],
  ];
  for (const [text, expected] of canonical) {
    it(`prints ${text} canonically`, () => {
      const statement = reparse(text);
      assert.ok(statement !== undefined);
      assert.equal(printStatement(statement), expected);
    });
  }

  it('hides secrets when asked', () => {
    const statement = reparse(
      "BACKUP INTO LATEST IN ('s3://b/p?AWS_SECRET_ACCESS_KEY=hush', $1) " +
        "WITH encryption_passphrase = 'hush', incremental_location = 's3://b/i?CREDENTIALS=hush'",
    );
    assert.ok(statement !== undefined);
    assert.equal(
      printStatement(statement, { redact: redactUri }),
      "BACKUP INTO LATEST IN ('s3://b/p?AWS_SECRET_ACCESS_KEY=redacted', $1) WITH OPTIONS " +
        "(encryption_passphrase = 'redacted', incremental_location = 's3://b/i?CREDENTIALS=redacted')",
    );
    const continuous = reparse(
      "ALTER VIRTUAL CLUSTER v SET CONTINUOUS BACKUP INTO 's3://b/p?CREDENTIALS=hush' WITH encryption_passphrase = 'hush'",
    );
    assert.ok(continuous !== undefined);
    assert.equal(
      printStatement(continuous, { redact: redactUri }),
      "ALTER VIRTUAL CLUSTER v SET CONTINUOUS BACKUP INTO 's3://b/p?CREDENTIALS=redacted' WITH OPTIONS (encryption_passphrase = 'redacted')",
    );
    const restore = reparse("RESTORE FROM LATEST IN 'x' WITH kms = ('aws:///a?REGION=x', 'aws:///b')");
    assert.ok(restore !== undefined);
    assert.equal(
      printStatement(restore, { redact: redactUri }),
      "RESTORE FROM LATEST IN 'x' WITH OPTIONS (kms = ('redacted', 'redacted'))",
    );
  });
});
