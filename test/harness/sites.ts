/** Two physical clusters that replicate into each other, as an operator would have them. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { join } from 'node:path';
import { TestDaemon } from './daemon.ts';
import { waitFor } from './wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };
const MAIN = { cluster: 'main' };
/** Of a node's log, when a wait was in vain. */
const LOG_LINES_SHOWN = 60;

export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

/** One of two physical clusters, with a virtual cluster `main` that serves or follows. */
export class Site implements AsyncDisposable {
  readonly daemon: TestDaemon;
  /** Read at every start of the daemon. */
  readonly environment: Record<string, string>;

  private constructor(daemon: TestDaemon, environment: Record<string, string>) {
    this.daemon = daemon;
    this.environment = environment;
  }

  /** With a user whom another site may follow it as. */
  static async start(options: { flags?: readonly string[]; store?: string } = {}): Promise<Site> {
    const environment: Record<string, string> = {};
    const daemon = await TestDaemon.start({ ...options, environment });
    const site = new Site(daemon, environment);
    await site.system(
      `CREATE USER replicator WITH PASSWORD 's3cret-of-the-stream'`,
      'GRANT SYSTEM REPLICATION TO replicator',
    );
    return site;
  }

  system(...sql: string[]): Promise<Record<string, unknown>[]> {
    return this.daemon.query(sql, SYSTEM);
  }

  main(...sql: string[]): Promise<Record<string, unknown>[]> {
    return this.daemon.query(sql, MAIN);
  }

  connect(): Promise<pg.Client> {
    return this.daemon.connect(MAIN);
  }

  /** What another site writes into ON '...'. */
  uri(port = this.daemon.port): string {
    const query = 'options=-ccluster=system&sslmode=disable';
    return `postgresql://replicator:s3cret-of-the-stream@127.0.0.1:${port}/defaultdb?${query}`;
  }

  async status(): Promise<Record<string, unknown>> {
    return (await this.system('SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS'))[0] ?? {};
  }

  async serviceMode(): Promise<unknown> {
    return (await this.system('SHOW VIRTUAL CLUSTER main'))[0]?.['service_mode'];
  }

  /** Fails with what it is instead, and with the end of the node's log. */
  async whenIn(state: string): Promise<Record<string, unknown>> {
    let status: Record<string, unknown> = {};
    try {
      return await waitFor(`main to be "${state}"`, async () => {
        status = await this.status();
        return status['status'] === state ? status : undefined;
      });
    } catch (cause) {
      const log = await readFile(join(this.daemon.store, 'logs/atoll.log'), 'utf8').catch(String);
      const lines = log.split('\n').slice(-LOG_LINES_SHOWN).join('\n');
      throw new Error(`main is not "${state}" but ${JSON.stringify(status)}\n${lines}`, { cause });
    }
  }

  whenServing(): Promise<unknown> {
    return waitFor('main to serve', () => this.main('SELECT 1'));
  }

  /** A base, which is what a failback goes back to. */
  whenProtected(): Promise<unknown> {
    return waitFor('a base', async () => {
      const bases = await this.system(
        `SELECT 1 FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'base'`,
      );
      return bases.length > 0;
    });
  }

  /** From a base on, and without a gap in the log, up to now: a failback has something to go back to. */
  async whenRestorable(): Promise<void> {
    const [row] = await this.main('SELECT clock_timestamp()::text AS now');
    await waitFor('the present to be restorable', async () => {
      const windows = await this.system(
        `SELECT 1 FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main]
          WHERE kind = 'window' AND state = 'restorable' AND end_time > '${String(row?.['now'])}'`,
      );
      return windows.length > 0;
    });
  }

  /** Everything that was committed at the source so far has been replayed here. */
  async whenCaughtUp(source: Site): Promise<void> {
    const [row] = await source.main('SELECT clock_timestamp() AS now');
    await waitFor('the follower to catch up', async () => {
      const { replicated_time: time } = await this.status();
      return time instanceof Date && row?.['now'] instanceof Date && time > row['now'];
    });
  }

  refusal(sql: string): Promise<Refusal> {
    return this.system(sql).then(
      () => {
        throw new Error(`${sql} was not refused`);
      },
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
  }

  /** The notices of a statement. */
  async noticesOf(sql: string): Promise<string> {
    const client = await this.daemon.connect(SYSTEM);
    const notices: string[] = [];
    client.on('notice', ({ message }) => notices.push(message ?? ''));
    try {
      await client.query(sql);
    } finally {
      await client.end();
    }
    return notices.join('\n');
  }

  /** In the server of `main` as the node's own user, which nobody else can be. */
  async asNode(sql: string): Promise<Record<string, unknown>[]> {
    const client = await this.connectAsNode();
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** As `asNode`; the caller ends it. Of another virtual cluster by its id. */
  async connectAsNode(of?: number): Promise<pg.Client> {
    const id = of ?? (await this.status())['id'];
    const host = join(this.daemon.store, 'run', String(id));
    const client = new pg.Client({ host, user: 'atoll', database: 'system' });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  /** Kills the daemon; the next one is cut off at `point`. */
  async restartToDieAt(point: string): Promise<void> {
    await this.daemon.kill();
    this.environment['ATOLL_TEST_FAULT_POINT'] = point;
    await this.daemon.startAgain();
  }

  /** Waits until the daemon has been cut off, and starts one that is not. */
  async afterDeath(): Promise<void> {
    await this.daemon.ended();
    delete this.environment['ATOLL_TEST_FAULT_POINT'];
    await this.daemon.startAgain();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
  }
}

/** That a standby which has caught up has the rows that its primary had at that time. */
export async function assertSame(standby: Site, { as: primary }: { as: Site }): Promise<void> {
  await standby.whenCaughtUp(primary);
  const sql = 'SHOW EXPERIMENTAL_FINGERPRINTS FROM VIRTUAL CLUSTER main';
  const [ours] = await standby.system(sql);
  const [theirs] = await primary.system(`${sql} AS OF SYSTEM TIME '${String(ours?.['end_ts'])}'`);
  assert.deepEqual(theirs, ours);
}
