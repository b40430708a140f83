import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mayBeOurs } from './may-be-ours.ts';
import { parseStatement } from './parser.ts';
import { printStatement } from './printer.ts';
import { redactUri } from './redact.ts';

describe('statements about privileges', () => {
  const canonical: readonly (readonly [string, string])[] = [
    ['grant system backup to user;', 'GRANT SYSTEM BACKUP TO user'],
    [
      'GRANT SYSTEM all privileges TO a, "B" WITH ADMIN OPTION',
      'GRANT SYSTEM ALL TO a, "B" WITH GRANT OPTION',
    ],
    ['revoke system BACKUP, restore from a restrict', 'REVOKE SYSTEM BACKUP, RESTORE FROM a'],
    [
      'REVOKE ADMIN OPTION FOR SYSTEM backup FROM current_user CASCADE',
      'REVOKE GRANT OPTION FOR SYSTEM BACKUP FROM CURRENT_USER CASCADE',
    ],
    ['GRANT BACKUP ON t TO u', 'GRANT BACKUP ON TABLE t TO u'],
    [
      'GRANT BACKUP, select (a, "B") ON TABLE d.s.t, s.* TO public',
      'GRANT BACKUP, SELECT (a, "B") ON TABLE d.s.t, s.* TO PUBLIC',
    ],
    ['GRANT BACKUP ON ALL TABLES IN SCHEMA s TO u', 'GRANT BACKUP ON ALL TABLES IN SCHEMA s TO u'],
    ['GRANT RESTORE, CONNECT ON DATABASE d TO "public"', 'GRANT RESTORE, CONNECT ON DATABASE d TO PUBLIC'],
    ['GRANT USAGE ON EXTERNAL CONNECTION c TO u', 'GRANT USAGE ON EXTERNAL CONNECTION c TO u'],
    [
      'ALTER DEFAULT PRIVILEGES IN SCHEMA s FOR USER r GRANT BACKUP ON TABLES TO u',
      'ALTER DEFAULT PRIVILEGES FOR ROLE r IN SCHEMA s GRANT BACKUP ON TABLES TO u',
    ],
    ['show grants on t for u', 'SHOW GRANTS ON TABLE t FOR u'],
    ['SHOW GRANTS ON DATABASE d', 'SHOW GRANTS ON DATABASE d'],
    ['create user u viewjob', 'CREATE USER u WITH VIEWJOB'],
    ["ALTER USER u WITH NOVIEWJOB PASSWORD 'p' LOGIN", "ALTER USER u WITH NOVIEWJOB PASSWORD 'p' LOGIN"],
  ];
  for (const [text, expected] of canonical) {
    it(`reads ${text}`, () => {
      assert.ok(mayBeOurs(text));
      const found = parseStatement(text);
      assert.ok(found !== undefined);
      assert.equal(printStatement(found.node), expected);
    });
  }

  const foreign = [
    'GRANT system TO u',
    'GRANT system, other TO u WITH ADMIN OPTION',
    'REVOKE system FROM u',
    'GRANT SELECT ON t TO u',
    'GRANT SELECT ON backup TO restore',
    'GRANT SELECT (backup) ON t TO u',
    'GRANT backup TO u',
    'GRANT "backup" ON t TO u',
    'GRANT USAGE ON SCHEMA external TO connection',
    'GRANT USAGE ON FOREIGN SERVER external TO u',
    'GRANT ALL ON external TO u',
    'REVOKE GRANT OPTION FOR SELECT ON t FROM u',
    'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO backup',
    'ALTER DEFAULT PRIVILEGES IN SCHEMA backup GRANT SELECT ON TABLES TO u',
    'ALTER DEFAULT PRIVILEGES FOR ROLE restore REVOKE ALL ON FUNCTIONS FROM PUBLIC',
    'CREATE ROLE viewjob',
    'CREATE ROLE u IN ROLE viewjob',
    'CREATE ROLE u ROLE a, viewjob ADMIN controljob',
    "CREATE USER u PASSWORD 'viewjob'",
    'CREATE USER "viewjob" LOGIN',
    'CREATE USER MAPPING FOR u SERVER s',
    'ALTER ROLE u SET search_path = a',
    'ALTER ROLE u RENAME TO w',
    'SHOW role',
    'GRANT',
    'REVOKE',
    'ALTER DEFAULT PRIVILEGES',
    'CREATE ROLE',
  ];
  for (const text of foreign) {
    it(`leaves ${text} to Postgres`, () => assert.equal(parseStatement(text), undefined));
  }

  const malformed = [
    'GRANT SYSTEM BACKUP',
    'GRANT SYSTEM BACKUP FROM u',
    'GRANT BACKUP ON t',
    'GRANT BACKUP ON SCHEMA s TO u',
    'GRANT BACKUP ON ALL SEQUENCES IN SCHEMA s TO u',
    'REVOKE BACKUP ON t TO u FROM w',
    'ALTER DEFAULT PRIVILEGES GRANT BACKUP ON SEQUENCES TO u',
    'CREATE ROLE u VIEWJOB NONSENSE',
    'SHOW GRANTS ON',
    'SHOW GRANTS TO u',
  ];
  for (const text of malformed) {
    it(`refuses ${text}, with the synopsis`, () => {
      assert.throws(() => parseStatement(text), { code: 'syntax', hint: /^usage: / });
    });
  }

  it('hides a password when asked', () => {
    const found = parseStatement("CREATE ROLE u PASSWORD 'hush' VIEWJOB VALID UNTIL '2030-01-01'");
    assert.ok(found !== undefined);
    assert.equal(
      printStatement(found.node, { redact: redactUri }),
      "CREATE ROLE u WITH PASSWORD 'redacted' VIEWJOB VALID UNTIL '2030-01-01'",
    );
  });
});
