/** The two physical clusters of the story. */
export type Site = 'primary' | 'standby';

/** One statement of the story, sent as any client would send it. */
export interface StoryStatement {
  readonly site: Site;
  readonly cluster: string;
  readonly database: string;
  readonly sql: string;
  /** Content that later content is compared with, or content that has to equal the latest of those. */
  readonly content?: 'original' | 'copy';
  /** The statement is repeated until the stream is in this state and, where it follows, has all that was committed before. */
  readonly awaits?: 'replicating' | 'ready';
}

export interface StoryStep {
  readonly title: string;
  readonly statements: readonly StoryStatement[];
}

export const ORIGINAL = 'main';
export const RESTORED = 'restored';
export const LEDGER_DATABASE = 'ledger';
const COLLECTION = 'nodelocal://1/ledger';

/** Everything of both tables in two short texts. Sums do not depend on the order in which rows are read. */
const CONTENT_VIEW = `CREATE VIEW content AS
SELECT 'accounts' AS table, count(*) AS rows, sum(hashtextextended(a::text, 0)) AS hash FROM accounts a
UNION ALL
SELECT 'transfers', count(*), sum(hashtextextended(t::text, 0)) FROM transfers t`;
const CONTENT = 'TABLE content';

const STATUS = `SELECT status, replicated_time FROM [SHOW VIRTUAL CLUSTER ${ORIGINAL} WITH REPLICATION STATUS]`;

/**
 * The story that the demonstration tells: a ledger is made, backed up and restored, then followed by a second physical cluster, failed over
 * to that, and failed back. `addresses` are the SQL ports as `host:port`.
 */
export function storyOf(addresses: Readonly<Record<Site, string>>): readonly StoryStep[] {
  return [...backupSteps(), ...replicationSteps(addresses)];
}

function backupSteps(): readonly StoryStep[] {
  return [
    {
      title: 'Load a ledger into the virtual cluster main: 10,000 accounts, 100,000 transfers',
      statements: [
        { ...inLedger('primary', `CREATE DATABASE ${LEDGER_DATABASE}`), database: 'defaultdb' },
        ...[
          'CREATE TABLE accounts (id int8 PRIMARY KEY, owner text NOT NULL, balance numeric(12, 2) NOT NULL)',
          `CREATE TABLE transfers (
  id int8 PRIMARY KEY,
  source int8 NOT NULL REFERENCES accounts,
  target int8 NOT NULL REFERENCES accounts,
  amount numeric(12, 2) NOT NULL
)`,
          "INSERT INTO accounts SELECT i, 'owner ' || i, 1000 FROM generate_series(1, 10000) i",
          insertTransfers('1::int8, 100000'),
          CONTENT_VIEW,
        ].map((sql) => inLedger('primary', sql)),
        { ...inLedger('primary', CONTENT), content: 'original' },
      ],
    },
    {
      title:
        'Back it up while it serves, and restore it into a second virtual cluster: a PostgreSQL of its own',
      statements: [
        inLedger('primary', `BACKUP INTO '${COLLECTION}'`),
        ...system(
          'primary',
          `CREATE VIRTUAL CLUSTER ${RESTORED} LIKE ${ORIGINAL}`,
          `ALTER VIRTUAL CLUSTER ${RESTORED} START SERVICE SHARED`,
        ),
        {
          ...inLedger('primary', `RESTORE FROM LATEST IN '${COLLECTION}'`),
          cluster: RESTORED,
          database: 'defaultdb',
        },
        { ...inLedger('primary', CONTENT), cluster: RESTORED, content: 'copy' },
      ],
    },
  ];
}

function replicationSteps(addresses: Readonly<Record<Site, string>>): readonly StoryStep[] {
  return [
    {
      title: 'Let the second physical cluster follow main, byte for byte, while it is written to',
      statements: [
        ...replicator('primary'),
        ...system(
          'standby',
          `CREATE VIRTUAL CLUSTER ${ORIGINAL} FROM REPLICATION OF ${ORIGINAL}
ON '${sourceUri(addresses.primary)}'`,
        ),
        awaiting('standby', 'replicating'),
        inLedger('primary', insertTransfers('100001::int8, 110000')),
        { ...inLedger('primary', CONTENT), content: 'original' },
        awaiting('standby', 'replicating'),
      ],
    },
    {
      title: 'Fail over: the standby goes on where the primary was',
      statements: failover('standby'),
    },
    {
      title: 'Fail back: the old primary fetches only what was written since, and takes over again',
      statements: [
        inLedger('standby', insertTransfers('110001::int8, 111000')),
        { ...inLedger('standby', CONTENT), content: 'original' },
        ...replicator('standby'),
        ...system(
          'primary',
          `ALTER VIRTUAL CLUSTER ${ORIGINAL} STOP SERVICE`,
          `ALTER VIRTUAL CLUSTER ${ORIGINAL} START REPLICATION OF ${ORIGINAL}
ON '${sourceUri(addresses.standby)}'`,
        ),
        awaiting('primary', 'replicating'),
        ...failover('primary'),
      ],
    },
  ];
}

function failover(site: Site): readonly StoryStatement[] {
  return [
    ...system(site, `ALTER VIRTUAL CLUSTER ${ORIGINAL} COMPLETE REPLICATION TO LATEST`),
    awaiting(site, 'ready'),
    ...system(site, `ALTER VIRTUAL CLUSTER ${ORIGINAL} START SERVICE SHARED`),
    { ...inLedger(site, CONTENT), content: 'copy' },
  ];
}

function replicator(site: Site): readonly StoryStatement[] {
  return system(site, 'CREATE USER replicator', 'GRANT SYSTEM REPLICATION TO replicator');
}

function awaiting(site: Site, state: 'replicating' | 'ready'): StoryStatement {
  return { site, cluster: 'system', database: 'defaultdb', sql: STATUS, awaits: state };
}

function sourceUri(address: string): string {
  return `postgresql://replicator@${address}?options=-ccluster=system&sslmode=disable`;
}

function insertTransfers(span: string): string {
  return `INSERT INTO transfers
SELECT i, 1 + i * 7919 % 10000, 1 + (i * 104729 + 1) % 10000, (i * 31 % 9000) / 100.0
FROM generate_series(${span}) i`;
}

function inLedger(site: Site, sql: string): StoryStatement {
  return { site, cluster: ORIGINAL, database: LEDGER_DATABASE, sql };
}

function system(site: Site, ...statements: readonly string[]): readonly StoryStatement[] {
  return statements.map((sql) => ({ site, cluster: 'system', database: 'defaultdb', sql }));
}
