import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { TestBed } from '../../test/harness/front-door.ts';
import { required, SYSTEM_VIRTUAL_CLUSTER_ID } from '../base/index.ts';
import type { FrontDoor } from './front-door.ts';
import { readSessionRequest } from './startup.ts';

const PROTOCOL = 196_608;

let bed: TestBed;
let door: FrontDoor;
/** Virtual clusters whose credentials were asked for. */
const asked: number[] = [];

before(async () => {
  bed = await TestBed.start();
  const verifiers = await bed.instance.withSystemClient(
    async (client) => {
      await client.query("create role holder login password 'right'");
      return client.query(
        "select rolpassword as verifier from pg_catalog.pg_authid where rolname = 'holder'",
      );
    },
    { signal: new AbortController().signal },
  );
  const verifier = required(verifiers[0]?.['verifier'] ?? undefined, 'verifier');
  bed.service.credential = ({ virtualClusterId }: { virtualClusterId?: number; user: string }) => {
    asked.push(virtualClusterId ?? 0);
    const isHome = virtualClusterId === SYSTEM_VIRTUAL_CLUSTER_ID;
    return Promise.resolve(isHome ? { canLogin: true, verifier, isExpired: false } : undefined);
  };
  door = await bed.open({ authentication: 'scram' });
});
after(async () => {
  await bed[Symbol.asyncDispose]();
});

async function whoAmI(options: { user?: string; password?: string; options: string }): Promise<string> {
  const { host, port } = door.address as { host: string; port: number };
  const client = new pg.Client({
    host,
    port,
    user: 'operator',
    password: 'right',
    database: 'defaultdb',
    ...options,
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query(
      "SELECT session_user || ' ' || current_database() || ' ' || current_setting('work_mem') || ' ' || current_setting('default_transaction_read_only') AS me",
    );
    return rows[0].me;
  } finally {
    await client.end();
  }
}

test('the option is taken out, in all its spellings, and knows one value', () => {
  const request = (options: string) =>
    readSessionRequest({
      protocol: PROTOCOL,
      parameters: new Map([
        ['user', 'u'],
        ['options', options],
      ]),
    });
  for (const spelling of ['-cauthority=system', '-c authority=system', '--authority=system']) {
    const found = request(`-ccluster=main ${spelling} -c work_mem=1MB`);
    assert.equal(found.hasSystemAuthority, true);
    assert.equal(found.virtualClusterName, 'main');
    assert.equal(found.parameters.get('options'), '-c work_mem=1MB');
  }
  assert.equal(request('-ccluster=main').hasSystemAuthority, false);
  assert.throws(() => request('-cauthority=root'), { sqlstate: '22023' });
});

test('credentials are those of the system virtual cluster; the session is another role’s', async () => {
  bed.service.authorizeBySystem = ({ user }) =>
    Promise.resolve({
      role: 'root',
      database: user === 'operator' ? undefined : 'postgres',
      settings: { default_transaction_read_only: 'on' },
    });
  asked.length = 0;
  assert.equal(
    await whoAmI({ options: '-ccluster=main -cauthority=system -c work_mem=2MB' }),
    'root defaultdb 2MB on',
  );
  assert.deepEqual(asked, [SYSTEM_VIRTUAL_CLUSTER_ID]);
  assert.match(
    await whoAmI({ user: 'observer', options: '-ccluster=main -cauthority=system' }),
    /^root postgres/,
  );
});

test('a wrong password, and a missing right, end it', async () => {
  const options = '-ccluster=main -cauthority=system';
  await assert.rejects(whoAmI({ password: 'wrong', options }), { code: '28P01' });
  // In the virtual cluster itself nobody is called so.
  await assert.rejects(whoAmI({ options: '-ccluster=main' }), { code: '28P01' });
  delete bed.service.authorizeBySystem;
  await assert.rejects(whoAmI({ options }), { code: '0A000' });
});
