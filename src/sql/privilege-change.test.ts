import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mayBeOurs } from './may-be-ours.ts';
import { changesPrivileges, withoutStrings } from './privilege-change.ts';

const CHANGES = [
  'GRANT a TO b',
  'revoke SELECT ON t FROM b',
  'CREATE ROLE a',
  "/* x */ create -- y\n user a PASSWORD 'p'",
  'ALTER GROUP a ADD USER b',
  'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a',
  'DROP ROLE a',
  'drop user a',
  'DROP OWNED BY a',
  'REASSIGN OWNED BY a TO b',
];

test('statements that change rights are known, and looked at', () => {
  for (const text of CHANGES) assert.ok(changesPrivileges(text) && mayBeOurs(text), text);
  for (const text of ['', 'SELECT 1', 'CREATE TABLE role ()', 'DROP TABLE users', 'ALTER', '"grant" a'])
    assert.ok(!changesPrivileges(text), text);
});

test('no string of a statement is shown, however it is written', () => {
  const strings = fc.constantFrom("'hush'", "E'hu\\'sh'", "U&'hush'", '$$hush$$', '$a$hush$a$', "'hu' 'sh'");
  fc.assert(
    fc.property(strings, fc.boolean(), (string, isOpen) => {
      const text = `ALTER ROLE a PASSWORD ${isOpen ? string.slice(0, -1) : string}`;
      assert.doesNotMatch(withoutStrings(text), /hu|sh/);
    }),
  );
  assert.equal(
    withoutStrings("CREATE ROLE a LOGIN PASSWORD 'x' VALID UNTIL 'y';"),
    "CREATE ROLE a LOGIN PASSWORD 'redacted' VALID UNTIL 'redacted';",
  );
  assert.ok(withoutStrings(`GRANT a TO ${'b, '.repeat(10_000)}`).length <= 4096);
});
