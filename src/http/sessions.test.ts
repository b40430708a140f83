/** Logins of the API and the console, and what a browser may be led to do. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, type Clock, InputError, type Logger, type Timestamp } from '../base/index.ts';
import { systemRng } from '../daemon/index.ts';
import { HttpServer, type Login, WebSessions } from './index.ts';

const logger: Logger = {
  log: () => undefined,
  info: () => undefined,
  warning: () => undefined,
  error: () => undefined,
  for: () => logger,
};

const DAY_MS = 86_400_000;

/** Knows one password for all, and counts how often it was asked. */
class Rig {
  atMs = 0;
  logins = 0;
  password = 'right';
  isSilent = false;
  capabilities: string[] = [];
  readonly clock: Clock = {
    now: () => BigInt(this.atMs) as Timestamp,
    monotonicMs: () => this.atMs,
    sleep: async (ms, { signal }) => {
      await delay(ms, undefined, { signal });
    },
  };
  readonly sessions = new WebSessions<Login & { password: string }>({
    clock: this.clock,
    rng: systemRng(),
    service: {
      logIn: async ({ virtualClusterName = 'main', user, password }) => {
        this.logins += 1;
        if (password !== this.password || user === 'nobody') {
          throw new InputError('authentication_failed', `password authentication failed for user "${user}"`);
        }
        return {
          virtualClusterId: virtualClusterName === 'system' ? 1 : 3,
          virtualClusterName,
          user,
          isAdmin: user === 'root',
          capabilities: this.capabilities,
          sessionMs: DAY_MS,
          password,
        };
      },
      refresh: async (identity) => {
        if (this.isSilent) throw new AppError('instance_unresponsive', 'main is not responding');
        const { capabilities } = this;
        return identity.password === this.password ? { ...identity, capabilities } : undefined;
      },
    },
  });

  async serve(run: (base: string) => Promise<void>): Promise<void> {
    const families = ['main', 'other'].map((tenant) => ({ labels: { tenant }, value: 1 }));
    const server = await HttpServer.open({
      certificate: undefined,
      address: { host: '127.0.0.1', port: 0 },
      status: {
        nodeId: 1,
        release: '26.2',
        locality: '',
        notReadyReason: () => undefined,
        notResponding: async () => [],
      },
      metrics: {
        defaultTarget: () => 'main',
        hasVirtualCluster: (name) => ['system', 'main', 'other'].includes(name),
        collect: async () => [
          { name: 'sql_conns', help: 'Sessions', type: 'gauge', samples: families },
          { name: 'sql_sessions', help: 'All', type: 'gauge', samples: [{ labels: {}, value: 2 }] },
        ],
      },
      access: { kind: 'login', sessions: this.sessions, acceptsPlain: false },
      mounts: [],
      clock: this.clock,
      logger,
    });
    try {
      await run(`http://127.0.0.1:${server.port}`);
    } finally {
      await server.close();
    }
  }
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly cookies: readonly string[];
}

async function ask(url: string, options: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, options);
  return { status: response.status, body: await response.text(), cookies: response.headers.getSetCookie() };
}

const logIn = (base: string, body: object, headers: Record<string, string> = {}) =>
  ask(`${base}/_admin/v1/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });

/** The cookie header that a browser would send on. */
const carried = (answer: Answer) => answer.cookies.map((each) => each.split(';')[0]).join('; ');

describe('sessions at the HTTP port', () => {
  test('begin with a password, are shown to nobody, and end by a logout', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const answer = await logIn(base, { username: 'root', password: 'right' });
      assert.equal(answer.status, 200);
      assert.deepEqual(JSON.parse(answer.body), {
        login: { username: 'root', cluster: 'main', isAdmin: true },
      });
      const [session = '', cluster = ''] = answer.cookies;
      assert.match(session, /^session=[\w-]{43}; Path=\/; SameSite=Lax; Max-Age=86400; HttpOnly$/);
      assert.match(cluster, /^cluster=main; Path=\/; SameSite=Lax; Max-Age=86400$/);
      const headers = { cookie: carried(answer) };
      assert.match((await ask(`${base}/_admin/v1/session`, { headers })).body, /"username":"root"/);
      const gone = await ask(`${base}/_admin/v1/logout`, { method: 'POST', headers });
      assert.match(gone.cookies[0] ?? '', /^session=; .*Max-Age=0; HttpOnly$/);
      assert.equal((await ask(`${base}/_admin/v1/session`, { headers })).status, 401);
      assert.equal(rig.sessions.size, 0);
    });
  });

  test('are not had by a wrong password, an unknown name or nonsense, and nothing is repeated of what was sent', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      for (const body of [
        { username: 'root', password: 'secret-guess' },
        { username: 'nobody', password: 'right' },
      ]) {
        const answer = await logIn(base, body);
        assert.deepEqual([answer.status, answer.cookies], [401, []]);
        assert.doesNotMatch(answer.body, /secret-guess/);
      }
      for (const body of [
        {},
        { username: 'root', password: 7 },
        { username: '', password: 'secret-guess' },
      ]) {
        const answer = await logIn(base, body);
        assert.equal(answer.status, 400);
        assert.doesNotMatch(answer.body, /secret-guess/);
      }
      const token = { cookie: `session=${'x'.repeat(43)}` };
      assert.equal((await ask(`${base}/_admin/v1/session`, { headers: token })).status, 401);
      assert.equal(
        (await ask(`${base}/_admin/v1/session`, { headers: { cookie: 'x'.repeat(9_000) } })).status,
        401,
      );
    });
  });

  test('end by age, and when the password has changed; an instance that is silent ends none', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const [old, young] = [
        await logIn(base, { username: 'root', password: 'right' }),
        await logIn(base, { username: 'app', password: 'right' }),
      ];
      const status = async (of: Answer) =>
        (await ask(`${base}/_admin/v1/session`, { headers: { cookie: carried(of) } })).status;
      rig.atMs += 60_000;
      rig.isSilent = true;
      assert.equal(await status(young), 503);
      rig.isSilent = false;
      assert.equal(await status(young), 200);
      rig.password = 'other';
      rig.atMs += 60_000;
      assert.equal(await status(young), 401);
      rig.password = 'right';
      assert.equal(await status(young), 401, 'what is over stays over');
      assert.equal(await status(old), 200);
      rig.atMs += DAY_MS;
      assert.equal(await status(old), 401);
    });
  });

  test('are neither begun nor used by pages of other sites', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const credentials = { username: 'root', password: 'right' };
      const own = new URL(base).origin;
      for (const headers of [
        { origin: 'https://evil.example' },
        { origin: 'null' },
        { 'sec-fetch-site': 'cross-site' },
        { 'sec-fetch-site': 'same-site', origin: own },
      ]) {
        assert.equal((await logIn(base, credentials, headers)).status, 403, JSON.stringify(headers));
      }
      for (const headers of [{ origin: own }, { 'sec-fetch-site': 'same-origin', origin: own }]) {
        assert.equal((await logIn(base, credentials, headers)).status, 200, JSON.stringify(headers));
      }
      const form = await ask(`${base}/_admin/v1/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: 'username=root&password=right',
      });
      assert.equal(form.status, 415);
      assert.match(
        form.body,
        /"hint":"send the body as JSON, with the header content-type: application\/json"/,
      );
    });
  });

  test('a login takes the place of the session that the browser had', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const planted = await logIn(base, { username: 'evil', password: 'right' });
      const fresh = await logIn(base, { username: 'root', password: 'right' }, { cookie: carried(planted) });
      assert.notEqual(carried(planted), carried(fresh));
      assert.equal(rig.sessions.size, 1);
    });
  });
});

describe('figures', () => {
  test('are shown to users of the system virtual cluster whole, to others their own', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const vars = (query: string, headers: Record<string, string>) =>
        ask(`${base}/_status/vars${query}`, { headers });
      assert.equal((await vars('', {})).status, 401);
      assert.equal((await ask(`${base}/health`)).status, 200);
      const tenant = {
        cookie: carried(await logIn(base, { username: 'app', password: 'right', cluster: 'other' })),
      };
      const own = await vars('', tenant);
      assert.match(own.body, /^sql_conns\{tenant="other"\} 1$/m);
      assert.doesNotMatch(own.body, /main|sql_sessions|process_/);
      for (const query of ['?cluster=main', '?cluster=system', '?cluster=nowhere']) {
        const refused = await vars(query, tenant);
        assert.equal(refused.status, 403, query);
      }
      const operator = {
        cookie: carried(await logIn(base, { username: 'root', password: 'right', cluster: 'system' })),
      };
      assert.match((await vars('', operator)).body, /^sql_sessions 2$/m);
      assert.doesNotMatch((await vars('?cluster=main', operator)).body, /other|sql_sessions/);
    });
  });

  test('can be read by name and password in each request, which are checked once a minute', async () => {
    const rig = new Rig();
    await rig.serve(async (base) => {
      const basic = (user: string, password: string) => ({
        authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
      });
      const vars = async (password: string) =>
        (await ask(`${base}/_status/vars?cluster=system`, { headers: basic('prometheus', password) })).status;
      for (let count = 0; count < 5; count += 1) assert.equal(await vars('right'), 200);
      assert.equal(rig.logins, 1);
      assert.equal(await vars('wrong'), 401);
      rig.atMs += 61_000;
      assert.equal(await vars('right'), 200);
      assert.equal(rig.logins, 3);
      rig.password = 'changed';
      rig.atMs += 11_000;
      assert.equal(await vars('right'), 401);
    });
  });
});

test('what belongs to the node is shown to admins of virtual clusters that have the capability', async () => {
  const rig = new Rig();
  await rig.serve(async (base) => {
    const rights = {
      '/_status/nodes': 'can_view_node_info',
      '/_status/nodes/vars': 'can_view_tsdb_metrics',
      '/_status/nodes/process': 'can_debug_process',
    };
    const cookieOf = async (username: string, cluster: string) =>
      carried(await logIn(base, { username, password: 'right', cluster }));
    const [operator, admin, user] = [
      await cookieOf('root', 'system'),
      await cookieOf('root', 'main'),
      await cookieOf('app', 'main'),
    ];
    for (const [path, right] of Object.entries(rights)) {
      const get = async (cookie: string) => await ask(base + path, { headers: { cookie } });
      rig.capabilities = [];
      rig.atMs += 11_000;
      assert.equal((await ask(base + path)).status, 401);
      assert.equal((await get(operator)).status, 200);
      const refused = await get(admin);
      assert.equal(refused.status, 403);
      assert.match(refused.body, new RegExp(`GRANT CAPABILITY ${right}`));
      rig.capabilities = [right];
      rig.atMs += 11_000;
      const shown = await get(admin);
      assert.equal(shown.status, 200);
      assert.doesNotMatch(shown.body, /tenant=/);
      assert.equal((await get(user)).status, 403);
    }
    assert.match(
      (await ask(`${base}/_status/nodes/vars`, { headers: { cookie: operator } })).body,
      /^sql_sessions 2$/m,
    );
  });
});
