/** One statement of the story, sent as any client would send it. */
export interface StoryStatement {
  readonly cluster: string;
  readonly database: string;
  readonly sql: string;
  /** Under this name the result is kept, to be compared with another. */
  readonly remember?: 'before' | 'after';
}

export interface StoryStep {
  readonly title: string;
  readonly statements: readonly StoryStatement[];
}

export const ORIGINAL = 'bank';
export const RESTORED = 'bank-restored';
const COLLECTION = 'nodelocal://1/bank';
const DATABASE = 'ledger';

/** Everything of both tables in two short texts. Sums do not depend on the order in which rows are read. */
const CONTENT = `SELECT 'accounts' AS table, count(*) AS rows, sum(hashtextextended(a::text, 0)) AS content FROM accounts a
UNION ALL
SELECT 'transfers', count(*), sum(hashtextextended(t::text, 0)) FROM transfers t`;

/** The story that the demonstration tells: a bank's ledger is made, backed up, lost, and restored beside where it was. */
export const STORY: readonly StoryStep[] = [
  {
    title: 'Create a virtual cluster: a complete PostgreSQL of its own, with its own users and log',
    statements: system(
      `CREATE VIRTUAL CLUSTER ${ORIGINAL}`,
      `ALTER VIRTUAL CLUSTER ${ORIGINAL} GRANT CAPABILITY can_use_nodelocal_storage`,
      `ALTER VIRTUAL CLUSTER ${ORIGINAL} START SERVICE SHARED`,
      'SHOW VIRTUAL CLUSTERS',
    ),
  },
  {
    title: 'Load a ledger: 10,000 accounts, 100,000 transfers',
    statements: [
      inCluster(ORIGINAL, 'defaultdb', `CREATE DATABASE ${DATABASE}`),
      ...[
        `CREATE TABLE accounts (
  id int8 PRIMARY KEY,
  owner text NOT NULL,
  balance numeric(12, 2) NOT NULL CHECK (balance >= 0)
)`,
        `CREATE TABLE transfers (
  id int8 PRIMARY KEY,
  source int8 NOT NULL REFERENCES accounts,
  target int8 NOT NULL REFERENCES accounts,
  amount numeric(12, 2) NOT NULL,
  made_at timestamptz NOT NULL
)`,
        `INSERT INTO accounts
SELECT i, 'owner ' || i, 1000 FROM generate_series(1, 10000) i`,
        `INSERT INTO transfers
SELECT i, 1 + i * 7919 % 10000, 1 + (i * 104729 + 1) % 10000, (i * 31 % 9000) / 100.0,
       timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'
FROM generate_series(1::int8, 100000) i`,
        `UPDATE accounts SET balance = balance + change.sum
FROM (SELECT account, sum(amount) FROM (
        SELECT target AS account, amount FROM transfers
        UNION ALL SELECT source, -amount FROM transfers) moved
      GROUP BY account) change
WHERE accounts.id = change.account`,
        'CREATE INDEX ON transfers (source, made_at)',
        'SELECT id, owner, balance FROM accounts ORDER BY balance DESC, id LIMIT 3',
        'SELECT sum(balance) AS money_in_the_bank FROM accounts',
      ].map((sql) => inCluster(ORIGINAL, DATABASE, sql)),
    ],
  },
  {
    title: 'Back it up: a statement like any other, while the virtual cluster serves',
    statements: [
      { ...inCluster(ORIGINAL, DATABASE, CONTENT), remember: 'before' },
      inCluster(ORIGINAL, DATABASE, `BACKUP INTO '${COLLECTION}'`),
      inCluster(ORIGINAL, DATABASE, `SHOW BACKUPS IN '${COLLECTION}'`),
    ],
  },
  {
    title: 'Lose it: service stopped, data directory gone',
    statements: system(
      `ALTER VIRTUAL CLUSTER ${ORIGINAL} STOP SERVICE`,
      `DROP VIRTUAL CLUSTER ${ORIGINAL} IMMEDIATE`,
    ),
  },
  {
    title: 'Restore it into a second virtual cluster',
    statements: [
      ...system(
        `CREATE VIRTUAL CLUSTER ${RESTORED}`,
        `ALTER VIRTUAL CLUSTER ${RESTORED} GRANT CAPABILITY can_use_nodelocal_storage`,
        `ALTER VIRTUAL CLUSTER ${RESTORED} START SERVICE SHARED`,
      ),
      inCluster(RESTORED, 'defaultdb', `RESTORE FROM LATEST IN '${COLLECTION}'`),
      ...system('SHOW VIRTUAL CLUSTERS'),
    ],
  },
  {
    title: 'Compare what is there now with what was there before',
    statements: [{ ...inCluster(RESTORED, DATABASE, CONTENT), remember: 'after' }],
  },
];

export const LEDGER_DATABASE = DATABASE;

function inCluster(cluster: string, database: string, sql: string): StoryStatement {
  return { cluster, database, sql };
}

function system(...statements: readonly string[]): readonly StoryStatement[] {
  return statements.map((sql) => inCluster('system', 'defaultdb', sql));
}
